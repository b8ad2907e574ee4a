"""Linear heads on a frozen model's features."""
