"""Training organisms from their recipes, and measuring them."""
