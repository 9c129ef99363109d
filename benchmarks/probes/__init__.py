"""Benches of the probe solver and of whole sweeps, compared with scikit-learn."""
