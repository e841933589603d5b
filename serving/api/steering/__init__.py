"""Steering routes: dimensions, vectors, limits, defaults and comparisons."""
