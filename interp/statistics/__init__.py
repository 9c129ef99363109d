"""Estimates with intervals, splits without leakage, and metrics."""
