"""Pre-training: the embedded checkpoint series, saved densely early on."""
