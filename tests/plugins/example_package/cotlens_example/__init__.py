"""An example package: one task, decoder, estimator and control that cotlens finds through entry points."""
