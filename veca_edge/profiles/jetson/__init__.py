"""Engines measured on their board."""
