"""Plots from results; the only room that knows matplotlib."""
