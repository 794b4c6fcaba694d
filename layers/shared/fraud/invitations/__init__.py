"""Invitations: which account has brought which into the app. They are edges of the graph, and no payments."""
