"""Steering vectors: several fitting methods, their controls, and transfer to other models."""
