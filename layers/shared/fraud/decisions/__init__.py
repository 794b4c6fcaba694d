"""The decision: how it is made, stored, repeated, repaired and published."""
