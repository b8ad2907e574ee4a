"""Measurements and fidelity of one or several bundles, as HTML and Markdown."""
