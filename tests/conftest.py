"""Settings of every test: properties have no deadline, because a busy machine is no fault of the code."""

from hypothesis import settings

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
