"""Jetson modules and JetPacks as data, and what a board says of itself."""
