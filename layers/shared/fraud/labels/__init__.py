"""Labels: the findings of sources on payments (fraud or legitimate), and the fraud counts that follow from them."""
