"""The code that the SageMaker container loads."""
