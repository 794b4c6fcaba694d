"""Importers: public data as files that replay and training read."""
