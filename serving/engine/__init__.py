"""Steered generation for many requests at once; free of HTTP."""
