"""Metrics of faithfulness judged where the truth is known."""
