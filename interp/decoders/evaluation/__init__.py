"""Evaluation of decoders: read-outs of a whole store, scores with controls, calibration, search and transfer."""
