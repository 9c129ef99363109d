"""Probe trajectories: a probe at every position of a thought, pooled over the trace, with the place where it fired."""
