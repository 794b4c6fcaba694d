"""Accounts: hold, deactivation, appeal and reinstatement, under a cap on interventions."""
