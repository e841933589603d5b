"""Slot engine: continuous batching on transformers models."""
