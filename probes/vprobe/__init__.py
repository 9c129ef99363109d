"""V-probing: ask a frozen model about anything that a description names."""
