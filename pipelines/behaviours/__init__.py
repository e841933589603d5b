"""Behaviours: what a model writes in the sense of a dimension, prompted and scored."""
