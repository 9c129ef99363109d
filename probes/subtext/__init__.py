"""What a chain of thought says beyond its text, and when its answer is decided."""
