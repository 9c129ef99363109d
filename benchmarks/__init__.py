"""Benches: measures of this project beside their peers. They run from a checkout and are not installed."""
