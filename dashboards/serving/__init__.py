"""What stands in front of the pages: checks of requests, and paths."""
