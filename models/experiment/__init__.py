"""The experiment: the simulated app's months lived twice, without and with the system, and what that changes."""
