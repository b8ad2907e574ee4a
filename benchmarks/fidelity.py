"""How much INT8 costs a trained model, on every target and beside other toolchains, also on weights that are hard to
quantize.

Every tool gets the same calibration images, and is compared, image by image, with the float32 reference at the same
core count. The hard twin computes exactly the same function from rescaled channels (see `common.hard_twin`). The files
for Jetson, Apple and Android are the very ones that an export writes, executed here: by ONNX Runtime, our own executor
of Core ML programs, and LiteRT, for which the recipe is searched in its own way.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from veca_edge.base.progress import silent
from veca_edge.base.spec import ExportSpec, GraphSpec, ImageSize
from veca_edge.calibration.recipe import quantized_variants
from veca_edge.demo import demo_calibration, demo_checkpoint, demo_evaluation
from veca_edge.images.folder import ImageSet, find_images, load_images, sample
from veca_edge.images.preprocessing import normalised
from veca_edge.model.checkpoint import Checkpoint, load_checkpoint, save_safetensors
from veca_edge.model.folding import InferenceWeights, inference_weights
from veca_edge.model.plan import Variant
from veca_edge.profiles.measurement import utc_now
from veca_edge.proof.evaluate import run_frames, run_reference, with_logits
from veca_edge.proof.fidelity import Agreement, Comparison
from veca_edge.targets.table import open_artifact, target_named

from .common import add_output_option, hard_twin, numbers, say, table, write_result
from .toolchains import INT8_TARGETS, LABELS, MAKERS, OTHER_TARGETS, OURS, Candidate, Task, make_candidates, opened

EVERYONE = (
    "plain_fp32",
    "ort_dynamic",
    "ort_static",
    "nncf_ort",
    "nncf_openvino",
    "modelopt",
    "plain_w8a8",
    *INT8_TARGETS,
)
# The largest difference that float32 rounding makes between twins, relative to the largest magnitude.
MAX_TWIN_DIFFERENCE = 1e-3


def measure(
    checkpoint: Checkpoint,
    calibration: ImageSet,
    evaluation: ImageSet,
    core_counts: Sequence[int],
    names: Sequence[str],
    threads: int,
    peer_counts: Sequence[int] = (),
    modelopt_python: Path | None = None,
) -> dict[str, Any]:
    """Quantizes the checkpoint and its hard twin with every tool, and compares; a result file's content.

    Args:
        peer_counts: the core counts at which other tools run too.
    """
    started, size = utc_now(), ImageSize(*calibration.frames.shape[1:3])
    rows, not_run = [], {}
    twins = {"original": checkpoint, "hard": hard_twin(checkpoint)}
    expected = {
        count: run_reference(reference(checkpoint), checkpoint, evaluation.frames, count) for count in core_counts
    }
    for twin, model in twins.items():
        check_twin(model, evaluation, core_counts[0], expected[core_counts[0]])
        ours = our_weights(model, calibration, core_counts) if set(names) & set(INT8_TARGETS) else {}
        for count in core_counts:
            say(f"{twin} weights, {count} cores")
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory) / "checkpoint.safetensors"
                save_safetensors(model, path)
                task = Task(
                    model,
                    path,
                    GraphSpec(count, size, input="tensor"),
                    inference_weights(model),
                    ours.get(count),
                    normalised(calibration.frames),
                    Path(directory),
                    modelopt_python,
                )
                here = [n for n in names if n in OURS or (n in MAKERS and count in peer_counts)]
                candidates, failed = make_candidates(task, here, say)
                not_run |= failed
                for candidate in candidates:
                    found = compare(candidate, checkpoint, evaluation, expected[count], threads)
                    rows.append(
                        {
                            "weights": twin,
                            "core_count": count,
                            "name": candidate.name,
                            "label": candidate.label,
                            "setting": candidate.setting,
                            **found.to_json(),
                        }
                    )
        for name in [name for name in names if name in OTHER_TARGETS]:
            say(f"{twin} weights, {LABELS[name]}")
            target = OTHER_TARGETS[name]
            own = our_weights(model, calibration, core_counts, target) if quantizes_tokens(target) else ours
            found = on_other_target(target, own, checkpoint, evaluation, expected, threads)
            rows += [
                {
                    "weights": twin,
                    "core_count": count,
                    "name": name,
                    "label": LABELS[name],
                    "setting": "",
                    **agreement.to_json(),
                }
                for count, agreement in found.items()
            ]
    return {
        "benchmark": "fidelity",
        "checkpoint": checkpoint.name,
        "image_size": list(size),
        "threads": threads,
        "started_at": started,
        "calibration_images": len(calibration.frames),
        "evaluation_images": len(evaluation.frames),
        "rows": rows,
        "not_run": {LABELS[name]: reason for name, reason in not_run.items()},
    }


def reference(checkpoint: Checkpoint):
    from veca_edge.model.reference import reference_model

    return reference_model(checkpoint)


def check_twin(model: Checkpoint, evaluation: ImageSet, core_count: int, expected: dict[str, np.ndarray]) -> None:
    """Stops unless the float32 function of a twin is the original's."""
    made = run_reference(reference(model), model, evaluation.frames[:8], core_count)
    for name in ("cls", "dense"):
        difference = np.abs(made[name] - expected[name][:8]).max() / np.abs(expected[name][:8]).max()
        if not difference <= MAX_TWIN_DIFFERENCE:
            raise SystemExit(f"{model.name} is another function: its {name} differs by {difference:.2g}.")


def quantizes_tokens(target: str) -> bool:
    return target_named(target).quantizes_tokens


def our_weights(
    model: Checkpoint, calibration: ImageSet, core_counts: Sequence[int], target: str = "cpu"
) -> dict[int, InferenceWeights]:
    """What an export for a target computes with its defaults: one recipe for all core counts."""
    from veca_edge.calibration.calibrate import calibrate
    from veca_edge.calibration.search import PER_TOKEN, SearchOptions

    start, weights = time.perf_counter(), inference_weights(model)
    options = PER_TOKEN if quantizes_tokens(target) else SearchOptions()
    recipe = calibrate(weights, [calibration], tuple(core_counts), options=options, seed=0)
    say(f"{model.name}: our calibration took {time.perf_counter() - start:.0f} s")
    return quantized_variants(weights, recipe, core_counts)


def compare(
    candidate: Candidate, checkpoint: Checkpoint, evaluation: ImageSet, expected: dict[str, np.ndarray], threads: int
) -> Agreement:
    """One candidate on every evaluation image, one at a time."""
    run, comparison = opened(candidate, threads), Comparison()
    for i, frame in enumerate(evaluation.frames):
        # OpenVINO hands out the same arrays every time; nothing is kept of them here.
        outputs = with_logits(run(candidate.given(frame[None])), checkpoint)
        comparison.add(outputs, {name: value[i : i + 1] for name, value in expected.items()})
    return comparison.agreement(evaluation.labels)


def on_other_target(
    target: str,
    ours: Mapping[int, InferenceWeights],
    checkpoint: Checkpoint,
    evaluation: ImageSet,
    expected: Mapping[int, dict[str, np.ndarray]],
    threads: int,
) -> dict[int, Agreement]:
    """The target's own files for every core count, as an export writes them, on every evaluation image."""
    size = ImageSize(*evaluation.frames.shape[1:3])
    spec = ExportSpec(target, tuple(ours), ("int8",), (size,))
    variants = [Variant(spec.graph(count, size), "int8", weights) for count, weights in ours.items()]
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for artifact in target_named(spec.target).write(spec, variants, Path(directory), {}, silent):
            outputs = run_frames(open_artifact(Path(directory), artifact, threads), artifact, evaluation.frames)
            comparison = Comparison()
            comparison.add(with_logits(outputs, checkpoint), expected[artifact.core_count])
            found[artifact.core_count] = comparison.agreement(evaluation.labels)
    return found


def summary(result: dict[str, Any]) -> str:
    def cell(value: float | None, digits: int = 4) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    rows = [
        [
            row["label"],
            row["weights"],
            str(row["core_count"]),
            cell(row["cls"]["mean"], 5),
            cell(row["dense"]["mean"], 5),
            cell(row["dense"]["first_percentile"]),
            cell(row["top1_agreement"]),
            cell(row["top1"]),
        ]
        for row in result["rows"]
    ]
    lines = [table(["", "weights", "cores", "cls", "dense", "dense 1%", "top-1 agreement", "top-1"], rows)]
    return "\n".join(lines + [f"{label}: not run ({reason})" for label, reason in result["not_run"].items()])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="a trained checkpoint (default: the bundled demo)")
    parser.add_argument("--calibration", type=Path, help="images (default: the demo's)")
    parser.add_argument("--evaluation", type=Path, help="other images, in folders by class (default: the demo's)")
    parser.add_argument("--calibration-count", type=int, default=128)
    parser.add_argument("--image-size", type=ImageSize.parse, help="default 256, the demo's own 32")
    parser.add_argument("--cores", type=numbers, help="core tokens (default: every core count of the checkpoint)")
    parser.add_argument(
        "--peer-cores", type=numbers, default=[16], help="those of them at which the other tools run too (default 16)"
    )
    parser.add_argument("--candidates", default=",".join(EVERYONE), help=f"any of {','.join(EVERYONE)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--modelopt-python",
        type=Path,
        help="an interpreter with 'nvidia-modelopt[onnx]', whose pins do not go with ours",
    )
    add_output_option(parser)
    asked = parser.parse_args()
    if asked.checkpoint and not (asked.calibration and asked.evaluation):
        parser.error("a checkpoint of your own needs --calibration and --evaluation")
    names = asked.candidates.split(",")
    if unknown := set(names) - set(EVERYONE):
        parser.error(f"unknown candidates {', '.join(sorted(unknown))}")
    checkpoint = load_checkpoint(asked.checkpoint or demo_checkpoint())
    size = asked.image_size or (ImageSize(256, 256) if asked.checkpoint else ImageSize(32, 32))
    calibrating = sample(find_images(asked.calibration or demo_calibration()), asked.calibration_count, seed=0)
    judging = find_images(asked.evaluation or demo_evaluation())
    result = measure(
        checkpoint,
        load_images(calibrating, size),
        load_images(judging, size, classes=checkpoint.labels),
        asked.cores or checkpoint.config.core_counts,
        names,
        asked.threads,
        asked.peer_cores,
        asked.modelopt_python,
    )
    say(summary(result))
    say("written:", write_result(asked.output, f"fidelity_{checkpoint.name}", result))


if __name__ == "__main__":
    main()
