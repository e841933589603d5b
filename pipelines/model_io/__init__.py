"""Models read: activations, likelihoods, continuations and batches of texts."""
