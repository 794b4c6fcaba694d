"""From history to a model: dataset, training and evaluation."""
