"""Deny and allow lists, with their audit trail."""
