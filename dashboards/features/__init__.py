"""The features of a sparse autoencoder: what they are named after, beside random directions."""
