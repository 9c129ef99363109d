"""Models that answer while a person watches: edits of thoughts, read as the run read them."""
