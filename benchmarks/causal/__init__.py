"""Benches of the causal tests on organisms of every training seed."""
