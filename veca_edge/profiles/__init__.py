"""Measurements of artifacts: taken (`sweep`), kept with their bundle (`store`), compared (`verdict`)."""

from .measurement import Measurement, Sustained, Window, measurement_of, utc_now
from .store import of_one_machine, read_measurements, save_measurement
from .sweep import Failure, Profile, ProfileOptions, profile_bundle
from .verdict import Verdict, verdicts

__all__ = [
    "Failure",
    "Measurement",
    "Profile",
    "ProfileOptions",
    "Sustained",
    "Verdict",
    "Window",
    "measurement_of",
    "of_one_machine",
    "profile_bundle",
    "read_measurements",
    "save_measurement",
    "utc_now",
    "verdicts",
]
