"""Figures about speed and cost, each printed by one command: `python -m benchmarks.NAME`, or all by `make bench`.

A benchmark asserts nothing but its own correctness; targets are printed beside what was reached.
"""
