"""Solvers that fit many probes over the same rows at once: ridge regression and logistic regression."""
