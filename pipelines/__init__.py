"""Experiments on pre-training checkpoints."""
