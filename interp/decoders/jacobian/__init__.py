"""The Jacobian lens: what a state does to the end of the network, to first order and averaged over contexts."""
