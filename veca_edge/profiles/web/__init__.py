"""Measurements in a browser: a page takes one turn of a sweep after the other."""
