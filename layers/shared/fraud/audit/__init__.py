"""The audit trail: chains of hashed rows, and roots of their heads where nobody can change them."""
