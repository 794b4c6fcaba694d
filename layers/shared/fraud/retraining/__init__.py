"""Retraining: from a cause to a model that is promoted, refused, withdrawn or rolled back."""
