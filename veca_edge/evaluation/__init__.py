"""Whole data sets through every variant of a bundle: streamed, resumable, on one machine or many."""
