"""The policy: segments and rules as data, and how a payment is judged by them."""
