"""A bundle for benchmarks in which only speed counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from veca_edge.base.spec import ImageSize
from veca_edge.bundle.store import open_bundle
from veca_edge.bundle.types import Bundle
from veca_edge.model.config import Family


def made_bundle(
    family: Family, size: ImageSize, core_counts: Sequence[int], directory: Path, precisions: Sequence[str] = ("int8",)
) -> Bundle:
    """Random weights: in INT8 with plain ranges, which has the speed of a calibrated one; as they are for `fp32`."""
    from veca_edge.base.spec import ExportSpec, GraphSpec
    from veca_edge.base.versions import tool_versions
    from veca_edge.bundle.new_bundle import new_bundle
    from veca_edge.bundle.store import write_manifest
    from veca_edge.bundle.types import CheckpointFacts
    from veca_edge.converters.cpu import CpuDialect, onnx_models_from_variants
    from veca_edge.converters.onnx.files import save_models
    from veca_edge.converters.onnx.graph import onnx_from_veca
    from veca_edge.images.preprocessing import Preprocessing
    from veca_edge.model.checkpoint import random_checkpoint
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.plan import Variant
    from veca_edge.proof.golden import write_golden

    from .common import absmax_quantized, random_frames, random_images

    checkpoint = random_checkpoint(family.config())
    weights = inference_weights(checkpoint)
    spec = ExportSpec("cpu", tuple(core_counts), tuple(precisions), (size,))
    frames = random_frames(2, size, seed=2)
    golden = {"cls": np.zeros((2, checkpoint.config.output_dim), np.float32)}
    with new_bundle(directory / "bundle") as bundle:
        variants = []
        for count in core_counts:
            graph = onnx_from_veca(weights, GraphSpec(count, size, input="tensor"), CpuDialect, {})
            save_models({"float.onnx": graph}, directory, "")
            quantized = absmax_quantized(weights, directory / "float.onnx", random_images(1, size, seed=1), count)
            of = {"int8": quantized, "fp32": weights}
            variants += [Variant(spec.graph(count, size), precision, of[precision]) for precision in precisions]
            write_golden(bundle, count, size, frames, golden)
        artifacts = onnx_models_from_variants(variants, bundle, {})
        write_manifest(
            Bundle(
                bundle,
                spec,
                CheckpointFacts(checkpoint.name, checkpoint.digest, checkpoint.config),
                Preprocessing().to_json(),
                tool_versions(),
                tuple(artifacts),
            )
        )
    return open_bundle(directory / "bundle")
