"""Probe routes: texts scored by registered probes."""
