"""Marks by graph: the job that finds them, the gate that judges them, and their publication."""
