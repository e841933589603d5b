"""Registry of vectors and checkpoints: what is stored, what it means, and where it came from."""
