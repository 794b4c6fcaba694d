"""The workshop: simulated payments, training data, training and evaluation of the model. No Lambda imports it."""
