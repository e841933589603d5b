"""Evaluation: whether a steering vector works, beside what it must beat."""
