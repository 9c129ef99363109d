"""Runs: the demo, studies, reports and the dashboard over them."""
