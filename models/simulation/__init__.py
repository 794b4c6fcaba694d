"""The simulated payment app: its people, their ordinary payments, and stories, some of which are frauds."""
