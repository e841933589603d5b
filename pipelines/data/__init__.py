"""Data inspection: the statements of a data set, before any probe."""
