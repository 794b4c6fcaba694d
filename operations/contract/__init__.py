"""The contract with callers and readers, as documents: routes, schemas, examples, OpenAPI and AsyncAPI."""
