"""Organisms: small models trained here, with exact ground truth about their thoughts."""
