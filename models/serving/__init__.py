"""The inference script, which the SageMaker container loads."""
