"""`build.sh`, run for real against the stand-in for trtexec; see tests/standin."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from standin.fixtures import write_model

from veca_edge.base.errors import EdgeError
from veca_edge.converters.tensorrt.build_script import write_build_script

WEAK = {
    "opset": 16,
    "strongly_typed": False,
    "tensorrt": "8.5",
    "build_flags": [
        "--int8",
        "--fp16",
        "--precisionConstraints=obey",
        "--layerPrecisions=a b:fp32,c'd:fp32",
        "--layerOutputTypes=a b:fp32,c'd:fp32",
        "--noTF32",
    ],
}


def run(folder: Path, **environment):
    return subprocess.run(
        ["sh", str(folder / "build.sh")], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.fixture
def board(local_board):
    """The board's trtexec where the script looks for it: on the PATH, since / is not ours."""
    pytest.importorskip("tensorrt_rtx")
    os.symlink(local_board.root / "usr/src/tensorrt/bin/trtexec", local_board.root / "bin/trtexec")
    local_board.tell(timing_s=0.1)
    return local_board


@pytest.mark.parametrize("details", [{}, WEAK, {"profiles": [{"cores": [[1, 8, 64]] * 3}] * 2}])
def test_shellcheck(tmp_path, details):
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck (apt-get install shellcheck)")
    script = write_build_script(tmp_path, [write_model(tmp_path, **details)])
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["bundle", "a bundle; $(touch owned)", "-n"])
def test_builds_and_times(board, tmp_path, name, monkeypatch):
    folder = tmp_path / name
    models = [write_model(folder, "cores16_fp16_32x32"), write_model(folder, "cores8_int8_32x32")]
    script = write_build_script(folder, models)
    assert script.stat().st_mode & 0o111
    monkeypatch.chdir(tmp_path)
    if name == "-n":
        done = subprocess.run(["sh", "./-n/build.sh"], capture_output=True, text=True, check=False)
    else:
        done = run(folder)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (folder / "engines").iterdir()) == sorted(
        [
            "board.txt",
            "timing.cache",
            *(
                f"{m.name}.{end}"
                for m in models
                for end in ("engine", "layers.json", "times.json", "build.log", "timing.log")
            ),
        ]
    )
    for model in models:
        assert len(json.loads((folder / "engines" / f"{model.name}.times.json").read_text())) >= 30
        assert f"{model.name}: min = 9.5257 ms" in done.stdout
    assert "tensorrt: 10.3 (100300)" in (folder / "engines/board.txt").read_text()
    assert "power mode: MAXN_SUPER" in done.stdout
    assert not list(tmp_path.rglob("owned"))


def test_what_is_built_is_not_built_again(board, tmp_path):
    write_build_script(tmp_path, [write_model(tmp_path)])
    assert run(tmp_path).returncode == 0
    board.tell(fault="killed")
    again = run(tmp_path)
    assert again.returncode == 0
    assert "building" not in again.stdout


def test_an_elastic_file_is_built_once_and_timed_at_every_core_count(board, tmp_path):
    shapes = [{"tokens": [[1, count, 16]] * 3} for count in (8, 16)]
    first = write_model(tmp_path, profiles=shapes, profile=0)
    second = replace(first, core_count=8, details={**first.details, "profile": 1})
    script = write_build_script(tmp_path, [first, second]).read_text()
    [built] = [line for line in script.splitlines() if line.startswith("build cores")]
    assert built.endswith("--profile=1 " + " ".join(f"--{kind}Shapes=tokens:1x16x16" for kind in ("min", "opt", "max")))
    assert [line for line in script.splitlines() if line.startswith("measure cores")] == [
        "measure cores16_fp16_32x32 cores16_fp16_32x32 --useProfile=0 --shapes=tokens:1x8x16",
        "measure cores8_fp16_32x32 cores16_fp16_32x32 --useProfile=1 --shapes=tokens:1x16x16",
    ]


def test_workspace(board, tmp_path):
    model = write_model(tmp_path)
    write_build_script(tmp_path, [model])
    run(tmp_path, WORKSPACE="77")
    assert "workspace:77 " in (tmp_path / "engines" / f"{model.name}.build.log").read_text()


@pytest.mark.parametrize(
    ("details", "works", "too_old", "too_new"),
    [
        ({}, ["10.3.0", "10.13.3", "11.1.0"], ["8.6.2", "8.5.2"], []),
        (WEAK, ["8.5.2", "8.6.2", "10.3.0"], [], ["11.1.0"]),
        ({**WEAK, "opset": 17, "tensorrt": "8.6"}, ["8.6.2"], ["8.5.2"], ["11.1.0"]),
    ],
)
def test_versions(board, tmp_path, details, works, too_old, too_new):
    """The stand-in refuses options that the trtexec of its version would refuse."""
    write_build_script(tmp_path, [write_model(tmp_path, **details)])
    for version in works:
        board.tell(tensorrt=version)
        shutil.rmtree(tmp_path / "engines", ignore_errors=True)
        done = run(tmp_path)
        assert done.returncode == 0, f"{version}: {done.stderr}"
    for version in too_old + too_new:
        board.tell(tensorrt=version)
        shutil.rmtree(tmp_path / "engines", ignore_errors=True)
        done = run(tmp_path)
        assert done.returncode == 2
        assert ("or later" in done.stderr) == (version in too_old)
        assert f"--tensorrt {'.'.join(version.split('.')[:2])}" in done.stderr
        assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize(
    ("fault", "said"), [("killed", "exit code 137"), ("memory", "WORKSPACE=256"), ("timing", "timing failed")]
)
def test_one_that_fails_does_not_end_the_others(board, tmp_path, fault, said):
    models = [write_model(tmp_path, "cores16_fp16_32x32"), write_model(tmp_path, "cores8_fp16_32x32")]
    write_build_script(tmp_path, models)
    board.tell(fault=fault)
    done = run(tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "failed: cores16_fp16_32x32 cores8_fp16_32x32" in done.stderr
    assert not list((tmp_path / "engines").glob("*.part"))
    assert bool(list((tmp_path / "engines").glob("*.engine"))) == (fault == "timing")


def test_no_trtexec(board, tmp_path):
    write_build_script(tmp_path, [write_model(tmp_path)])
    board.without("trtexec")
    done = run(tmp_path)
    assert done.returncode == 2
    assert "nvidia-jetpack" in done.stderr


def test_nothing_to_build(tmp_path):
    with pytest.raises(EdgeError, match="no ONNX file for a Jetson"):
        write_build_script(tmp_path, [])
