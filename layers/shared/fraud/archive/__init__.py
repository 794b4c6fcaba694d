"""The archive in S3: what was known at each decision, and the labels, under pseudonyms, for training and figures."""
