"""Qualcomm's compiler and its emulation in a process of their own: JSON on stdin, one line of JSON on stdout.

They write to both outputs, keep threads and libraries, and can end the process.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import Any

import numpy as np

PROVIDER = "QNNExecutionProvider"
# Everything runs on the NPU, or the session is refused.
WHOLE = ("session.disable_cpu_ep_fallback", "1")


def session_on_htp(path: str, request: dict[str, Any], entries: dict[str, str], **more: str):
    """A session of ONNX Runtime on the emulated processor of one SoC."""
    import onnxruntime as ort
    import onnxruntime_qnn as qnn

    if not any(device.ep_name == PROVIDER for device in ort.get_ep_devices()):
        ort.register_execution_provider_library(PROVIDER, qnn.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    about = {
        "backend_path": qnn.get_qnn_htp_path(),
        "soc_model": str(request["soc_model"]),
        "htp_arch": str(request["htp_arch"]),
        "enable_htp_fp16_precision": "1",
        **more,
    }
    options.add_provider_for_devices(devices[:1], about)
    return ort.InferenceSession(path, options)


def compile_context(request: dict[str, Any], whole: bool) -> None:
    """Writes the context binary, inside of an ONNX file."""
    entries = {
        "ep.context_enable": "1",
        "ep.context_file_path": request["context"],
        "ep.context_embed_mode": "1",
        **(dict([WHOLE]) if whole else {}),
    }
    session_on_htp(request["source"], request, entries, htp_graph_finalization_optimization_mode="3")


def emulate(request: dict[str, Any]) -> None:
    """Runs a context binary on frames, and leaves its outputs."""
    session = session_on_htp(request["context"], request, dict([WHOLE]))
    names = [output.name for output in session.get_outputs()]
    batches = np.load(request["frames"])
    found = [[np.asarray(array) for array in session.run(names, {"image": batch})] for batch in batches]
    outputs: dict[str, Any] = {name: np.concatenate([f[i] for f in found]) for i, name in enumerate(names)}
    np.savez(request["outputs"], **outputs)


def peak_memory() -> int:
    """The most that was resident of this process, in bytes; Linux, as the compiler."""
    # Not `getrusage`, which begins with the peak of whatever process started this one.
    with open("/proc/self/status") as status:
        found = re.search(r"VmHWM:\s+([0-9]+) kB", status.read())
    assert found is not None
    return 1024 * int(found[1])


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request, start = json.load(sys.stdin), time.perf_counter()
    try:
        if request["do"] == "emulate":
            emulate(request)
        else:
            compile_context(request, whole=request["do"] == "compile")
        answer = {"seconds": round(time.perf_counter() - start, 3), "peak_memory_bytes": peak_memory()}
    except Exception as error:  # ONNX Runtime's own kinds, told by the process that asked
        answer = {"error": str(error)}
    channel.write(json.dumps(answer) + "\n")
    channel.flush()
    # The libraries' own ends may not come.
    os._exit(0)


if __name__ == "__main__":
    main()
