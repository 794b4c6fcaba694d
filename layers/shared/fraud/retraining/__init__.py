"""Retraining: from a cause to a model that is promoted, refused or taken back."""
