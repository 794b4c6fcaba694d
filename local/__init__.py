"""The account in a box: everything in template.yaml, running on one machine. `python -m local` starts it."""
