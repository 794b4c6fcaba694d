"""SageMaker's runtime: a model server process behind InvokeEndpoint."""
