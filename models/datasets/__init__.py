"""Importers: they convert public data to files that replay and training read."""
