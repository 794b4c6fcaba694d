"""Benchmarks of speed and cost. `python -m benchmarks.NAME` prints the figures of one, `make bench` those of all.

A benchmark asserts only its own correctness. It prints a target beside the figure that was reached.
"""
