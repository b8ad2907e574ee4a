"""`build.sh`: makes and times a bundle's engines on a board that has nothing but trtexec."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from ...base.errors import EdgeError
from ...base.files import disk_errors, write_atomically
from ...bundle.details import TensorrtDetails, details_as
from ...bundle.types import Artifact
from ...devices.jetson.trtexec import profile_arguments, profile_selection
from .engine import WORKSPACE, oldest_tensorrt

NAME = "build.sh"

_SCRIPT = """\
#!/bin/sh
# Builds the TensorRT engines of this bundle on the board that will run them, and times them.
#
#   sh build.sh                  builds what is not built yet, and times everything
#   WORKSPACE=256 sh build.sh    leaves the builder 256 MiB of memory for scratch
#   TRTEXEC=/path sh build.sh    takes this trtexec
#
# Needs nothing but JetPack's trtexec, and no root. What it makes is in engines/: NAME.engine, its layers
# (NAME.layers.json), the time of every query (NAME.times.json), and the logs. board.txt says where it was.
# An engine runs only on the module, JetPack and power mode that it was built with.
#
# Written by veca-edge for TensorRT @FOR@.
set -u

fail() {
    printf 'build.sh: %s\\n' "$*" >&2
    exit 2
}

cd -- "$(dirname -- "$0")" || exit 2

trtexec=${TRTEXEC:-}
for found in "$(command -v trtexec)" /usr/src/tensorrt/bin/trtexec; do
    if [ -z "$trtexec" ] && [ -n "$found" ] && [ -x "$found" ]; then
        trtexec=$found
    fi
done
[ -n "$trtexec" ] || fail "there is no trtexec, neither on the PATH nor in /usr/src/tensorrt/bin." \\
    "Install it with: sudo apt install nvidia-jetpack"

# The banner says v8502 for 8.5.2 and v100300 for 10.3.0.
number=$("$trtexec" --help 2>&1 | sed -n 's/.*TensorRT v\\([0-9][0-9]*\\).*/\\1/p' | head -n 1)
[ -n "$number" ] || fail "$trtexec does not say its version; is it TensorRT's?"
if [ "$number" -ge 100000 ]; then
    major=$((number / 10000))
    minor=$((number / 100 % 100))
else
    major=$((number / 1000))
    minor=$((number / 100 % 10))
fi
version=$((major * 100 + minor))
[ "$version" -ge @OLDEST@ ] || fail "these files are for TensorRT @OLDEST_TEXT@ or later, and this is $major.$minor." \\
    "Export them for it: veca-edge export ... --target jetson --tensorrt $major.$minor"
[ "$version" -lt @ENDS@ ] || fail "these files are for TensorRT before 11, and this is $major.$minor." \\
    "Export them for it: veca-edge export ... --target jetson --tensorrt $major.$minor"

workspace=${WORKSPACE:-}
if [ -z "$workspace" ]; then
@WORKSPACE@
fi
build_only=--skipInference
[ "$version" -ge 806 ] || build_only=--buildOnly
timing='--useCudaGraph --useSpinWait --noDataTransfers'
[ "$version" -lt 1100 ] || timing=

mkdir -p engines || exit 2
{
    echo "model: $(tr -d '\\0' </proc/device-tree/model 2>/dev/null)"
    echo "system: $(head -n 1 /etc/nv_tegra_release 2>/dev/null)"
    echo "tensorrt: $major.$minor ($number)"
    echo "power mode: $(nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode: *//p')"
} >engines/board.txt
cat engines/board.txt

failed=

# build NAME FILE OPTION...
build() {
    name=$1
    file=$2
    shift 2
    if [ ! -f "engines/$name.engine" ]; then
        echo "building $name (minutes) ..."
        "$trtexec" --onnx="$file" --saveEngine="engines/$name.engine.part" --timingCacheFile=engines/timing.cache \\
            --exportLayerInfo="engines/$name.layers.json" --profilingVerbosity=detailed \\
            --memPoolSize=workspace:"$workspace" "$build_only" "$@" >"engines/$name.build.log" 2>&1
        code=$?
        if [ "$code" -ne 0 ]; then
            rm -f "engines/$name.engine.part"
            complain "$name" "$code" build
            return
        fi
        mv "engines/$name.engine.part" "engines/$name.engine"
    fi
}

# measure NAME ENGINE OPTION...
measure() {
    name=$1
    engine=engines/$2.engine
    shift 2
    [ -f "$engine" ] || return
    # $timing is a list of options.
    # shellcheck disable=SC2086
    "$trtexec" --loadEngine="$engine" $timing --warmUp=2000 --duration=10 --percentile=50,90,95,99 \\
        --exportTimes="engines/$name.times.json" "$@" >"engines/$name.timing.log" 2>&1
    code=$?
    if [ "$code" -ne 0 ]; then
        rm -f "engines/$name.times.json"
        complain "$name" "$code" timing
        return
    fi
    sed -n "s/.*GPU Compute Time: /$name: /p" "engines/$name.timing.log" | tail -n 1
}

# complain NAME CODE STEP
complain() {
    failed="$failed $1"
    log="engines/$1.$3.log"
    printf '%s: the %s failed (exit code %s), see %s\\n' "$1" "$3" "$2" "$log" >&2
    grep -F '[E]' "$log" | head -n 5 >&2
    if [ "$2" -eq 137 ] || grep -q -i -e 'out of memory' -e 'OutOfMemory' -e 'insufficient' "$log"; then
        echo "The board ran out of memory: try WORKSPACE=256, and stop the desktop and other programs." >&2
    fi
}

@BUILDS@

if [ -n "$failed" ]; then
    echo "failed:$failed" >&2
    exit 1
fi
echo "The engines are in $PWD/engines"
"""


def write_build_script(directory: Path, artifacts: Sequence[Artifact]) -> Path:
    """Writes `build.sh` beside the ONNX files of a bundle, executable.

    Args:
        directory: the bundle's.
        artifacts: its ONNX artifacts for the target `jetson`; they are of one dialect.
    """
    models = [a for a in artifacts if a.format == "onnx" and a.target == "jetson"]
    if not models:
        raise EdgeError(
            "There is no ONNX file for a Jetson to write a build script for.", "Export with --target jetson."
        )
    oldest = max(oldest_tensorrt(a.details) for a in models)
    strongly_typed = all(details_as(a.details, TensorrtDetails).strongly_typed for a in models)
    values = {
        "FOR": details_as(models[0].details, TensorrtDetails).tensorrt or str(oldest),
        "OLDEST": str(oldest.major * 100 + oldest.minor),
        "OLDEST_TEXT": str(oldest),
        "ENDS": "99999" if strongly_typed else "1100",
        "WORKSPACE": "\n".join(f"    {line}" for line in WORKSPACE.strip().splitlines()),
        # Artifacts of an elastic file share it.
        "BUILDS": "\n".join([*dict.fromkeys(map(_build_line, models)), "", *map(_measure_line, models)]),
    }
    path = directory / NAME
    write_atomically(path, re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], _SCRIPT))
    with disk_errors(path):
        path.chmod(0o755)
    return path


def _build_line(artifact: Artifact) -> str:
    facts = details_as(artifact.details, TensorrtDetails)
    flags = (*facts.build_flags, *profile_arguments(facts.profiles))
    return shlex.join(["build", Path(artifact.path).stem, artifact.path, *flags])


def _measure_line(artifact: Artifact) -> str:
    return shlex.join(["measure", artifact.name, Path(artifact.path).stem, *profile_selection(artifact.details)])
