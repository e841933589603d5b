"""Export: champions as a pack, and as a checkpoint with their offsets baked in."""
