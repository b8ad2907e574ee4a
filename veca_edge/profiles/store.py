"""Measurements in a bundle: `profiles/MACHINE/VARIANT.json`, one file each, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ..base.errors import EdgeError
from ..base.files import disk_errors, write_atomically
from ..bundle.store import PROFILES, Bundle
from .measurement import Measurement


def measurement_stem(artifact: str, format: str, threads: int | None, setting: str = "") -> str:
    """What a measurement's file is called: one for each variant and setting."""
    parts = [
        artifact,
        format,
        f"threads{threads}" if threads else "",
        "".join(c if c.isalnum() or c in "-." else "-" for c in setting),
    ]
    return "_".join(part for part in parts if part)


def measurements_folder(directory: Path, machine_id: str) -> Path:
    """Where the measurements of one machine are; created where it is missing."""
    folder = directory / PROFILES / machine_id
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_measurement(directory: Path, measurement: Measurement) -> Path:
    """Stores a measurement in the bundle at `directory`; an older one of the same variant and setting is replaced."""
    stem = measurement_stem(measurement.artifact, measurement.format, measurement.threads, measurement.setting)
    path = measurements_folder(directory, measurement.machine.machine_id) / f"{stem}.json"
    write_atomically(path, json.dumps(measurement.to_json(), ensure_ascii=False) + "\n")
    return path


def load_measurement(path: Path) -> Measurement:
    """Raises `EdgeError` when the file is not a measurement."""
    try:
        return Measurement.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgeError(
            f"{path} is not a measurement: {type(error).__name__}: {error}.",
            f"Remove it and measure again: veca-edge profile '{path.parents[2]}'",
        ) from error


def read_measurements(bundle: Bundle) -> list[Measurement]:
    """Every measurement in a bundle, of all machines; those of files that were replaced since are left out."""
    digests = {a.sha256 for a in bundle.artifacts}
    found = [load_measurement(path) for path in sorted((bundle.directory / PROFILES).glob("*/*.json"))]
    return sorted(
        (m for m in found if m.sha256 in digests),
        key=lambda m: (m.machine.machine_id, m.image_size, m.core_count, m.precision, m.setting, m.threads or 0),
    )


def of_one_machine(measurements: Iterable[Measurement], machine_id: str | None = None) -> list[Measurement]:
    """Measurements that may be compared with each other.

    Args:
        machine_id: whose; None asks for those of the only machine there is.

    Raises:
        EdgeError: there are none, or they are of several machines.
    """
    every = list(measurements)
    machines = {m.machine.machine_id: m.machine for m in every}
    listed = "; ".join(f"{key} ({machine.name})" for key, machine in machines.items())
    if not every:
        raise EdgeError("There are no measurements.", "Make some with: veca-edge profile BUNDLE")
    if machine_id is None and len(machines) > 1:
        raise EdgeError(
            f"The measurements are of {len(machines)} machines, which cannot be mixed: {listed}.", "Say which machine."
        )
    if machine_id is not None and machine_id not in machines:
        raise EdgeError(f"There are no measurements of the machine {machine_id}.", f"There are some of: {listed}.")
    return [m for m in every if machine_id in (None, m.machine.machine_id)]
