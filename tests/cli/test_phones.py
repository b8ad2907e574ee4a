"""Many phones at once. They are stand-ins (tests/phones.py), behind a stand-in for adb."""

from __future__ import annotations

import shutil

import pytest
from bundles import bundle_around
from phones import several_phones

from veca_edge.bundle.store import open_bundle, write_manifest
from veca_edge.profiles.store import read_measurements

pytest.importorskip("ai_edge_litert")

SERIALS = ("R5CX1", "39161FD", "RF8N7")
QUICK = ("--rounds", "2", "--seconds", "0.1", "--cores", "8,16")


@pytest.fixture
def bundle(tflite_files, tmp_path):
    directory, artifacts, _ = tflite_files
    shutil.copytree(directory, tmp_path / "bundle")
    chosen = [a for a in artifacts["int8"] if a.core_count < 32]
    return write_manifest(bundle_around(tmp_path / "bundle", chosen)).directory


@pytest.fixture
def phones(tmp_path, monkeypatch):
    folder, made = several_phones(tmp_path / "phones", SERIALS)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for phone in made.values():
        phone.install_app()
    return made


def of_phones(bundle):
    """Measurements of each phone, by the identity that it has."""
    found = {}
    for m in read_measurements(open_bundle(bundle)):
        found.setdefault(m.machine.identity, []).append((m.core_count, m.setting, len(m.round_sizes)))
    return sorted(found.values())


def test_one_that_goes_away_ends_no_other_and_goes_on_where_it_stopped(veca_edge, phones, bundle):
    lost = phones[SERIALS[1]]
    # It is gone after its first turn, and still gone when it is tried again.
    lost.state(devices={SERIALS[1]: "device"}, gone="am instrument")
    words = ("profile", bundle, *(word for serial in SERIALS for word in ("--device", f"adb:{serial}")), *QUICK)
    ended = veca_edge(*words, "--json")
    assert ended.code == 1
    assert f"adb:{SERIALS[1]} (tried twice): The connection to adb:{SERIALS[1]} broke off" in ended.err
    told = {device["device"]: device for device in ended.json["devices"]}
    assert {name: device["attempts"] for name, device in told.items()} == {
        f"adb:{SERIALS[0]}": 1,
        f"adb:{SERIALS[1]}": 2,
        f"adb:{SERIALS[2]}": 1,
    }
    assert of_phones(bundle)[-2:] == [[(8, "cpu", 2), (16, "cpu", 2)]] * 2
    turns = {serial: (phone.root / "turns").stat().st_size for serial, phone in phones.items()}
    assert turns == {SERIALS[0]: 4, SERIALS[1]: 1, SERIALS[2]: 4}

    # It is connected again: the same command measures what it owes, and nothing of the others.
    lost.state(devices={SERIALS[1]: "device"})
    again = veca_edge(*words, "--json")
    assert again.code == 0, again.err
    assert of_phones(bundle) == [[(8, "cpu", 2), (16, "cpu", 2)]] * 3
    turns = {serial: (phone.root / "turns").stat().st_size for serial, phone in phones.items()}
    assert turns == dict.fromkeys(SERIALS, 4)


def test_a_fleet_of_phones(veca_edge, phones, bundle, tmp_path):
    phones[SERIALS[2]].install_app(refused_accelerator="gpu")
    file = tmp_path / "fleet.toml"
    file.write_text(
        "".join(
            f'[devices.{name}]\ndevice = "adb:{serial}"\ntags = ["{tag}"]\n'
            for name, serial, tag in (
                ("old", SERIALS[0], "desk"),
                ("new", SERIALS[1], "wall"),
                ("slow", SERIALS[2], "desk"),
            )
        )
    )
    asked = ("profile", bundle, "--fleet", file, "--tag", "desk", "--accelerators", "cpu,gpu", *QUICK)
    ended = veca_edge(*asked)
    assert ended.code == 1
    assert "1 of 2 devices are done." in ended.out
    assert "slow (tried twice): " in ended.err
    assert "operators are left to the CPU" in ended.err
    # A line for each accelerator of a phone, with a median for each variant.
    lines = [line.split() for line in ended.out.splitlines() if "SM-S921B" in line]
    assert [(words[1] if words[0] != "old" else words[0]) for words in lines] == ["old", "old", "slow"]
    assert [next(w for w in words if w in ("cpu", "gpu")) for words in lines] == ["cpu", "gpu", "cpu"]
    assert not (phones[SERIALS[1]].root / "turns").exists()


def test_phones_that_can_not_be_told_apart(veca_edge, phones, bundle):
    for devices, message in (
        (("adb", f"adb:{SERIALS[0]}"), "'adb' is whichever phone is connected"),
        ((f"adb:{SERIALS[0]}",) * 2, "are one device"),
        ((f"adb:{SERIALS[0]}", "adb:a b"), "is not the serial of a phone"),
    ):
        ended = veca_edge("profile", bundle, *(word for device in devices for word in ("--device", device)))
        assert ended.code == 2
        assert message in ended.err
