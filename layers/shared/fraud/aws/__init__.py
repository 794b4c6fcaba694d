"""How the library talks to AWS: the hot path's client, boto3, the HTTP API, metrics."""
