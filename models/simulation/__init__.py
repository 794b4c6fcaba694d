"""The simulated payment app: people, honest days and fraud stories."""
