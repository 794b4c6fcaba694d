"""Commands for people: those of the runbook, and the generated documents."""
