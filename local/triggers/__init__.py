"""Triggers of functions beside the API: streams, queues, the event bus, schedules."""
