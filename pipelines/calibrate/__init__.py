"""Calibration: how far each dimension of a model can be steered, and at what cost."""
