"""Benches of capture: the cost of recording compared with other libraries."""
