"""Measurements of artifacts: taken (`sweep`, `coreml`, `jetson`), kept with their bundle, compared (`verdict`)."""
