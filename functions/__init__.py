"""The doors: one file per family of triggers. A handler parses, makes one call into `fraud` and returns the result."""
