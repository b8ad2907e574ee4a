"""How close an artifact stays to the float32 reference."""
