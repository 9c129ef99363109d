"""Probe estimators: supervised read-outs of activations that follow scikit-learn's contract."""
