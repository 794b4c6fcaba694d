"""The workshop: simulated payments, training data, the model's training and evaluation. It never runs in a function."""
