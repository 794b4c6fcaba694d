"""Graphs of accounts: the shapes of their connected components."""
