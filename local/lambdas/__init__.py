"""Lambda: execution environments and the process inside each."""
