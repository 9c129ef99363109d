"""Commands of this toolkit that the dashboard starts in processes of their own."""
