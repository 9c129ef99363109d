"""An example package: one task, kind of reasoner, decoder, estimator and control that cotlens finds through entry points."""
