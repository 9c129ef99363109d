"""Figures of probes that can be clicked."""
