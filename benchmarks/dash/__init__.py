"""The dashboard in a real headless browser."""
