"""The parts of the probes page: one cell, and transfer between cells."""
