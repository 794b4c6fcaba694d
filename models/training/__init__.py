"""Training of the model on replayed payments: dataset, training and evaluation."""
