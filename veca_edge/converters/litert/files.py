"""LiteRT files from variants: one for every precision, with a signature for every core count and image size."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...base.errors import EdgeError
from ...base.files import write_atomically
from ...base.progress import Progress, silent
from ...base.spec import ExportSpec
from ...bundle.store import artifact_for
from ...bundle.types import Artifact
from ...formats.tflite import TfliteModel, read_tflite, schema_for
from ...images.preprocessing import Preprocessing
from ...model.folding import Linear, within_half
from ...model.plan import Variant
from .flatbuffer import PURPOSE, TfliteBuilder
from .graph import PIXEL_CENTRE, PIXEL_SCALE, BlockWriter, GraphWriter
from .outputs import write_outputs

FOLDER = "models"
METADATA = "veca_edge"
FORMAT, TARGET = "tflite", "android"
# More rows than this a fully connected layer would not be the same graph for: VECA's batches are small.
MOST_SIGNATURES = 256


def check_export(spec: ExportSpec) -> None:
    """Raises `EdgeError` for a request that no file can hold, and `MissingDependency` without LiteRT."""
    schema_for(PURPOSE)
    asked = len(spec.core_counts) * len(spec.image_sizes)
    if asked > MOST_SIGNATURES:
        raise EdgeError(
            f"One .tflite file takes {MOST_SIGNATURES} signatures at most, and {asked} were asked for.",
            "Give fewer --cores or --image-size.",
        )


def signature_names(variants: Sequence[Variant]) -> dict[str, Variant]:
    """`cores_16`, or `cores_16_512x512` where there are several image sizes."""
    several = len({v.spec.image_size for v in variants}) > 1
    return {f"cores_{v.spec.core_count}" + (f"_{v.spec.image_size}" if several else ""): v for v in variants}


def tflite_files_from_variants(
    variants: Sequence[Variant], directory: Path, metadata: Mapping[str, str], progress: Progress = silent
) -> list[Artifact]:
    """Writes one file per precision below `directory`; variants of one precision are its signatures.

    Their constants are stored once, as far as they are equal. The INT8 codes and scales of weights are those of
    `Linear.quantization`; its activation scales are not used, because the runtime quantizes every token by itself.

    Args:
        metadata: strings kept in the file.

    Raises:
        EdgeError: more than a file can hold, weights that FP16 can't, a full disk. MissingDependency: no LiteRT.
    """
    # GPU delegates compute floats in FP16, also those that are stored in float32.
    variants = [v if v.precision == "int8" else replace(v, weights=within_half(v.weights)) for v in variants]
    made, done = {}, 0
    for precision in dict.fromkeys(v.precision for v in variants):
        signatures = signature_names([v for v in variants if v.precision == precision])
        file = TfliteBuilder()
        for name, variant in signatures.items():
            add_subgraph(file, name, variant)
            done += 1
            progress("writing models", done, len(variants))
        facts = file_facts(signatures, precision, metadata)
        file.add_metadata(METADATA, json.dumps(facts, sort_keys=True, ensure_ascii=False).encode())
        path = f"{FOLDER}/veca_{precision}.tflite"
        (directory / FOLDER).mkdir(exist_ok=True)
        write_atomically(directory / path, file.to_bytes())
        written = read_tflite(directory / path)
        for name, variant in signatures.items():
            check_codes(written, name, variant)
            operators = Counter(op.type for op in written.subgraphs[written.signatures[name].subgraph].operators)
            details = {"operators": dict(sorted(operators.items()))}
            made[variant.name] = artifact_for(directory, path, FORMAT, TARGET, variant, name, details)
    return [made[v.name] for v in variants]


def add_subgraph(file: TfliteBuilder, name: str, variant: Variant) -> None:
    """Adds a variant to a file, as a signature."""
    writer, spec = GraphWriter(file, variant, name), variant.spec
    g, (height, width) = writer.g, spec.image_size
    if spec.input == "image":
        quantization = file.quantization(np.array([PIXEL_SCALE]), PIXEL_CENTRE)
        image = g.tensor([spec.batch, height, width, 3], np.uint8, "image", quantization=quantization)
    else:
        image = g.tensor([spec.batch, 3, height, width], np.float32, "image")
    blocks = BlockWriter(writer)
    outputs = write_outputs(writer, blocks.states(image), blocks.looks)
    g.table.inputs, g.table.outputs = [image], list(outputs.values())
    file.add_signature(name, g.index, {"image": image}, outputs)


def file_facts(signatures: Mapping[str, Variant], precision: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What an app may want to know, as JSON: how frames are prepared, what the signatures are, and the classes."""
    first = next(iter(signatures.values())).spec
    labels = {key: text.split("\n") for key, text in metadata.items() if key.startswith("labels")}
    return {
        **metadata,
        **labels,
        "precision": precision,
        "preprocessing": Preprocessing.from_metadata(metadata).to_json(),
        "input_kind": first.input,
        "outputs": list(first.outputs),
        "core_counts": sorted({v.spec.core_count for v in signatures.values()}),
        "signatures": {
            name: {"core_count": v.spec.core_count, "image_size": list(v.spec.image_size), "batch": v.spec.batch}
            for name, v in signatures.items()
        },
    }


# ------------------------------------------------------------------------- the check of the numbers


def check_codes(file: TfliteModel, signature: str, variant: Variant) -> None:
    """Compares every INT8 code and scale of a file as it lies on disk. A difference is a bug, not a user's error."""
    if not any(layer.quantization for layer in variant.weights.linears.values()):
        return
    subgraph = file.subgraphs[file.signatures[signature].subgraph]
    found = [subgraph.tensors[op.inputs[1]] for op in subgraph.operators if op.type == "FULLY_CONNECTED"]
    written = {t.name: (file.constant(t), t.quantization.scales) for t in found if t.dtype == "INT8" and t.quantization}
    for layer in variant.weights.linears.values():
        if layer.quantization is not None:
            _check_layer(signature, layer, written)


def _check_layer(signature: str, layer: Linear, written: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    q = layer.quantization
    assert q is not None
    name = layer.name.replace("blocks.", "b").replace(".", "_")
    # The last block may ask for queries and for keys and values of different rows: two operators, one layer.
    parts = [
        written[n] for n in (f"{name}_codes", f"{name}_queries_codes", f"{name}_keys_values_codes") if n in written
    ]
    codes = np.concatenate([c for c, _ in parts]) if parts else np.zeros((0, 0))
    scales = np.concatenate([s for _, s in parts]) if parts else np.zeros(0)
    if not (np.array_equal(codes, q.codes) and np.array_equal(scales, q.weight_scale)):
        raise AssertionError(f"the INT8 weights of '{layer.name}' in '{signature}' are not the recipe's")
