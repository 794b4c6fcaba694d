"""Velocity counters: how attempts are counted, kept, folded and measured."""
