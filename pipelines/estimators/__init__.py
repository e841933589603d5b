"""Estimators: from activations and labels to numbers with their uncertainty."""
