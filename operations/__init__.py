"""Commands for people: what the runbook asks for, and the generated documents."""
