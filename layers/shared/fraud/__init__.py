"""The fraud library, shared by every door of the system. `decisions.evaluation` is the path of one payment."""
