"""A bundle with real models and golden data, and measurements whose numbers are known."""

from __future__ import annotations

from pathlib import Path

import measured
import numpy as np
import pytest


@pytest.fixture(scope="session")
def real_bundle(square, data, absmax_quantized, tmp_path_factory):
    """`square` at 32 x 32, int8 and fp32, 8, 16 and 32 cores, made from tests/data/square.pt. Read only."""
    from veca_edge.base.spec import GraphSpec
    from veca_edge.bundle.new_bundle import new_bundle
    from veca_edge.bundle.store import open_bundle, write_manifest
    from veca_edge.bundle.types import CheckpointFacts
    from veca_edge.converters.cpu import onnx_models_from_variants
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.plan import Variant
    from veca_edge.model.reference import reference_model
    from veca_edge.proof.evaluate import run_reference
    from veca_edge.proof.golden import write_golden

    weights, model = inference_weights(square), reference_model(square)
    # The whole golden frame is one colour gradient and noise: enough to have patches that differ.
    frames = np.random.default_rng(0).integers(0, 256, (2, *measured.SIZE, 3), np.uint8)
    path = tmp_path_factory.mktemp("report") / "real"
    with new_bundle(path) as directory:
        variants = [
            Variant(
                GraphSpec(count, measured.SIZE),
                precision,
                absmax_quantized(weights, count) if precision == "int8" else weights,
            )
            for count in measured.TABLE
            for precision in ("int8", "fp32")
        ]
        artifacts = tuple(onnx_models_from_variants(variants, directory, {}))
        for count in measured.TABLE:
            write_golden(directory, count, measured.SIZE, frames, run_reference(model, square, frames, count))
        write_manifest(
            measured.bundle_of(directory, artifacts, CheckpointFacts("square", square.digest, square.config))
        )
    bundle = open_bundle(path)
    measured.measure(bundle)
    return bundle


@pytest.fixture(scope="session")
def square_file(data) -> Path:
    return data / "square.pt"
