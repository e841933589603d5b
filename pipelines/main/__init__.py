"""Workflow: every experiment in order, each if its inputs changed."""
