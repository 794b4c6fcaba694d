"""What the SageMaker container loads."""
