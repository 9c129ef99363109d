"""The pages of the dashboard; each has one `show`."""
