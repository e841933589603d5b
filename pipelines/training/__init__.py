"""The embedded checkpoint series: a small language model pre-trained on the spot, saved densely early on."""
