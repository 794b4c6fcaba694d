"""The workshop: simulated payments, training data, training and evaluation of the model. Runs offline, never in a function."""
