"""Settings of every test: no example of a property has a deadline, because a busy machine is not a fault of the code."""

from hypothesis import settings

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
