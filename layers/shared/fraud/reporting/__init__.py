"""Reporting: the figures that the system is judged by, each with its interval."""
