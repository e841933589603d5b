"""Probing: where and when trustworthiness becomes readable."""
