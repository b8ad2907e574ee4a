"""A web server for the page and one bundle: what can be reached, by whom, and over which address."""

from __future__ import annotations

PORT = 8471
