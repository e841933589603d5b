"""Models read: activations, likelihoods and batches of texts."""
