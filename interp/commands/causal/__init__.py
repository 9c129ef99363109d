"""`cotlens causal`: one file for each command."""
