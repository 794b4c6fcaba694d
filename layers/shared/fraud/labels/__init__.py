"""Labels: what sources say a payment was, and the fraud counts that follow from it."""
