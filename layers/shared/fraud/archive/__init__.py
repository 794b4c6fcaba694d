"""The archive in S3: what was known at each decision, what became of it, and the labels, under pseudonyms."""
