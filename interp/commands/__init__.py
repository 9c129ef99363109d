"""The commands of this package; heavy imports wait inside them."""
