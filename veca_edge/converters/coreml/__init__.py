"""VECA as Core ML packages."""
