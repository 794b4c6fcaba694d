"""API Gateway: the HTTP front, its authorisers, and a client that calls it."""
