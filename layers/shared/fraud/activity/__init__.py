"""The traces of an account beside its counters: links to what it pays and pays with, and its latest decisions."""
