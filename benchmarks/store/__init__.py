"""Benches of activation stores: reading compared with a memory map and SAELens's format."""
