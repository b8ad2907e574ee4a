"""Every shell script that runs on a board: POSIX, and clean for shellcheck."""

import shutil
import subprocess
from types import SimpleNamespace

import pytest

from veca_edge.converters.tensorrt.engine import build_job_script
from veca_edge.devices import job_scripts
from veca_edge.devices.jetson import probe
from veca_edge.devices.jetson.engine_key import EngineKey
from veca_edge.profiles.jetson.measure import BoardOptions, profile_job_script

KEY = EngineKey("Orin Nano 8GB", "8.7", "36.4.3", "10.3.0", "15W")
BOARD = SimpleNamespace(tensorrt="10.3.0", tegrastats="/usr/bin/tegrastats")
SCRIPTS = {
    "state": job_scripts.STATE,
    "run": job_scripts.RUNNER,
    "launch": job_scripts.LAUNCH,
    "poll": job_scripts.POLL,
    "stop": job_scripts.STOP,
    "remove": job_scripts.REMOVE,
    "leave": job_scripts.LEAVE,
    "read": job_scripts.READ,
    "probe": probe._SCRIPT,
    "build": build_job_script("'/usr/src/tensor rt/trtexec'", ["--a=b c"], KEY, None),
    "build_with": build_job_script("/usr/bin/python3 ./engine_builder.py", ["--a"], KEY, 256),
    "profile": profile_job_script(
        BOARD, "/usr/src/tensorrt/bin/trtexec", BoardOptions(layers=True, lock_clocks=True), {}
    ),
    "profile_simple": profile_job_script(
        SimpleNamespace(tensorrt="11.1.0", tegrastats=None), "trtexec", BoardOptions(), {}
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck(name):
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck (apt-get install shellcheck)")
    done = subprocess.run(
        ["shellcheck", "--shell=sh", "-"],
        input="#!/bin/sh\n" + SCRIPTS[name],
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_posix_shell_reads_it(name):
    subprocess.run(["sh", "-n"], input=SCRIPTS[name], text=True, check=True)
