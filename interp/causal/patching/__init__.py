"""Donors, and their states put in place of a recipient's while it thinks."""
