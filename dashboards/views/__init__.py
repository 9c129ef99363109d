"""The pages of the dashboard. Each module has one function `show`."""
