"""One row per target: the only place that knows what a target is."""
