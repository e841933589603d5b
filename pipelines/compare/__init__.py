"""Comparison of series: finished probing runs of several seeds or sizes on one figure."""
