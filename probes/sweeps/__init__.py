"""Probe sweeps: every target at every place and address, each score with its controls, interval and q-value."""
