"""Loading reasoners from folders, hubs and checkpoints."""
