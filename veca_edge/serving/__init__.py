"""A web server for the page and one bundle: what can be reached, by whom, and over which address."""

from __future__ import annotations

# A part of what a browser keeps pages by: the same one every time, so that the page loads offline.
PORT = 8471
