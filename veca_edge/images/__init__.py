"""How an image file becomes a frame, the same everywhere."""
