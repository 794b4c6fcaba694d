"""The fraud library: what every door of the system shares. `evaluation` tells the story of one payment."""
