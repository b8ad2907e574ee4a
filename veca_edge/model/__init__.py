"""VECA itself: sizes, checkpoints, the reference, and the folded form that every converter writes."""
