"""Decoders: lenses, neighbours, patchscopes, verbalizers, oracles and sparse features that read steps from activations."""
