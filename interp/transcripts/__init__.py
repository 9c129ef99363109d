"""Transcripts that were written elsewhere: their formats, and their alignment to a local model's tokens."""
