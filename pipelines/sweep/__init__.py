"""Sweeps over checkpoint × dimension: what a unit is, what it yields, and how interrupted work resumes."""
