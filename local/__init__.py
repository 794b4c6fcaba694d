"""The AWS account in a box: template.yaml, up and running on one machine. `python -m local` starts it."""
