"""Step Functions in the box: moto's interpreter of state machines, which invokes the box's functions."""
