"""Readers of model files on disk."""
