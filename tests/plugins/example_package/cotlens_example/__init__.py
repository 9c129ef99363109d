"""An example package: one decoder, estimator and control that cotlens finds through entry points."""
