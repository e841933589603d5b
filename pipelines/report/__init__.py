"""Report: one page about a model, from its runs."""
