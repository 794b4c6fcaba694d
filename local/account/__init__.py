"""The emulated AWS account: the template's resources on moto, and the box's clock."""
