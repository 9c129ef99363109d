"""Dictionaries that read one address and reconstruct another."""
