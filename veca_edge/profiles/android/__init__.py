"""Measurements on Android phones."""
