"""Core ML packages (`.mlpackage`) for iPhone, iPad and Mac, written on any machine.

One package per precision holds every core count and image size as a function of its own, and stores
equal weights once. Every package is read back from disk and its INT8 codes and scales compared with
those it was written from.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np

from ...base.errors import EdgeError
from ...base.files import disk_errors
from ...base.progress import Progress, silent
from ...base.spec import ExportSpec, GraphSpec
from ...bundle.store import artifact_for
from ...bundle.types import Artifact
from ...formats.coremltools_library import converting, coremltools_for
from ...formats.mlpackage import (
    MANIFEST,
    Constant,
    Function,
    MlPackage,
    Operation,
    read_mlpackage,
    read_specification,
    specification_path,
)
from ...model.folding import Linear, within_half
from ...model.plan import Variant
from .options import CoremlOptions
from .program import mil_from_veca
from .text import shorten
from .writer import balanced, half_scale, identifier

FOLDER = "apple"
PURPOSE = "An export for the target apple"
# Operators and package forms by the iOS that brought them.
FIRST_IOS = {"int8": 18, "w8": 18, "fp16": 17}
FIRST_MULTIFUNCTION_IOS = 18


def check_export(spec: ExportSpec, options: CoremlOptions, labels: Sequence[str] | None) -> None:
    """Everything about a request that can be refused before anything slow.

    Args:
        labels: class names in the order of the head's rows.

    Raises:
        EdgeError: the request can't be met; it says why. MissingDependency: no coremltools.
    """
    graph = spec.graph(spec.core_counts[0], spec.image_sizes[0])
    _check(options, spec.precisions, spec.core_counts, len(spec.image_sizes), graph, labels)


def _check(
    options: CoremlOptions,
    precisions: Sequence[str],
    core_counts: Sequence[int],
    image_sizes: int,
    graph: GraphSpec,
    labels: Sequence[str] | None,
) -> None:
    coremltools_for(PURPOSE)
    for precision in precisions:
        if options.ios < FIRST_IOS[precision]:
            raise EdgeError(
                f"{precision} needs iOS {FIRST_IOS[precision]} (the operators for its weights came with "
                f"it), but --ios {options.ios} was asked for.",
                "Use --ios 18, or --precision fp16.",
            )
    if len(core_counts) * image_sizes > 1 and options.ios < FIRST_MULTIFUNCTION_IOS and not options.separate:
        raise EdgeError(
            f"One package with several core counts or image sizes needs iOS {FIRST_MULTIFUNCTION_IOS}, "
            f"but --ios {options.ios} was asked for.",
            "Use --ios 18, or --separate for single packages.",
        )
    if graph.input == "image" and graph.batch > 1:
        raise EdgeError(
            f"A Core ML image input takes one frame per call, but the batch is {graph.batch}.",
            "Leave out --batch (an app batches with predictions(from:)), or use --input tensor.",
        )
    if options.default_cores is not None and options.default_cores not in core_counts:
        raise EdgeError(
            f"The default core count {options.default_cores} is not among those exported.",
            f"Exported: {', '.join(map(str, core_counts))}.",
        )
    if options.classifier and not ("logits" in graph.outputs and labels):
        raise EdgeError(
            "A classifier needs the output 'logits' and class names.",
            "Give a head with --head, names with --labels, and logits among --outputs.",
        )
    if options.classifier and graph.batch > 1:
        raise EdgeError(
            f"A Core ML classifier labels one image per call, but the batch is {graph.batch}.",
            "Leave out --batch or --classifier.",
        )


def mlpackages_from_variants(
    variants: Sequence[Variant],
    directory: Path,
    metadata: Mapping[str, str],
    options: CoremlOptions | None = None,
    progress: Progress = silent,
) -> list[Artifact]:
    """Writes Core ML packages under `directory/apple`.

    Several variants of one precision become functions of one package (`cores_8`, or `cores_8_256x384` where
    there are several image sizes); with `options.separate`, or for a single variant, each is a package of its own.
    INT8 codes and scales are those of `Linear.quantization`, but for powers of two that move from layer to layer (see
    `writer.balanced` and `folding.within_half`). Scales are stored in FP16, as Core ML asks for.

    Args:
        metadata: strings kept in the packages; `labels` (one class a line) makes a classifier's classes.

    Raises:
        EdgeError: see `check_export`; or weights that FP16 can't hold (it names the layer).
    """
    options = options or CoremlOptions()
    variants = [replace(v, weights=balanced(within_half(v.weights))) for v in variants]
    labels = metadata["labels"].split("\n") if "labels" in metadata else []
    precisions = list(dict.fromkeys(v.precision for v in variants))
    sizes = {v.spec.image_size for v in variants}
    _check(options, precisions, sorted({v.spec.core_count for v in variants}), len(sizes), variants[0].spec, labels)
    artifacts: dict[str, Artifact] = {}
    with disk_errors(directory), tempfile.TemporaryDirectory(prefix=".coreml-", dir=directory) as scratch:
        (directory / FOLDER).mkdir(exist_ok=True)
        for precision in precisions:
            group = [v for v in variants if v.precision == precision]
            single = {}
            for variant in group:
                single[variant.name] = _write_single(variant, Path(scratch), options, labels)
                progress("converting", len(artifacts) + len(single), len(variants))
            if len(group) == 1 or options.separate:
                packages = {v.name: {"main": v} for v in group}
            else:
                packages = {f"veca_{precision}": functions_of(group)}
            for name, functions in packages.items():
                made = _merge(functions, single, Path(scratch) / "merged.mlpackage", options)
                _finish(made, functions, metadata, options)
                package = read_mlpackage(made)
                _check_numbers(package, functions)
                path = f"{FOLDER}/{name}.mlpackage"
                made.rename(directory / path)
                for function, variant in functions.items():
                    artifacts[variant.name] = artifact_for(
                        directory,
                        path,
                        "mlpackage",
                        "apple",
                        variant,
                        function if len(functions) > 1 else None,
                        _details(package, function, options),
                    )
    return [artifacts[v.name] for v in variants]


def functions_of(variants: Sequence[Variant]) -> dict[str, Variant]:
    """Function names of the variants that share a package."""
    several = len({v.spec.image_size for v in variants}) > 1
    return {f"cores_{v.spec.core_count}" + (f"_{v.spec.image_size}" if several else ""): v for v in variants}


def default_function(functions: Mapping[str, Variant], options: CoremlOptions) -> str:
    """The function of the default core count, at the first image size."""
    wanted = options.default_cores or min(v.spec.core_count for v in functions.values())
    return next(name for name, v in functions.items() if v.spec.core_count == wanted)


def _write_single(variant: Variant, scratch: Path, options: CoremlOptions, labels: Sequence[str]) -> Path:
    """One variant as a package with the function `main`."""
    ct = coremltools_for(PURPOSE)
    spec = variant.spec
    program = mil_from_veca(
        variant.weights, spec, variant.precision, options.ios, options.layout, options.coordinates, options.classifier
    )
    # The program is final as written: no pass may change it, but equal constants are stored once.
    passes = ct.PassPipeline(["common::const_deduplication"], "veca-edge")
    passes.set_options("common::const_deduplication", {"const_threshold": 1})
    shape = (spec.batch, 3, *spec.image_size)
    image = [ct.ImageType("image", shape, color_layout=ct.colorlayout.RGB)] if spec.input == "image" else None
    classes = ct.ClassifierConfig(list(labels), "label", "probabilities") if options.classifier else None
    path = scratch / f"{variant.name}.mlpackage"
    with converting(scratch):
        model = ct.convert(
            program,
            convert_to="mlprogram",
            inputs=image,
            classifier_config=classes,
            minimum_deployment_target=getattr(ct.target, f"iOS{options.ios}"),
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=passes,
            skip_model_load=True,
        )
        model.save(str(path))
    return path


def _merge(functions: Mapping[str, Variant], single: Mapping[str, Path], path: Path, options: CoremlOptions) -> Path:
    """The packages of several variants as functions of one, which stores equal constants once."""
    if len(functions) == 1:
        (variant,) = functions.values()
        return single[variant.name]
    ct = coremltools_for(PURPOSE)
    merged = ct.utils.MultiFunctionDescriptor()
    for name, variant in functions.items():
        merged.add_function(str(single[variant.name]), "main", name)
    merged.default_function_name = default_function(functions, options)
    with converting(path.parent):
        ct.utils.save_multifunction(merged, str(path))
    return path


def _finish(path: Path, functions: Mapping[str, Variant], metadata: Mapping[str, str], options: CoremlOptions) -> None:
    """Writes description, version and the user-defined strings, describes every function's features, and shortens the
    programs.

    Merging drops what was set before, so this comes last.
    """
    model = read_specification(path)
    shorten(model.mlProgram)
    first = next(iter(functions.values())).spec
    written = model.description.metadata
    counts = ", ".join(str(v.spec.core_count) for v in functions.values())
    written.shortDescription = f"VECA vision transformer with {counts} core tokens."
    written.versionString = metadata.get("producer", "veca-edge")
    written.license = metadata.get("license", "")
    written.author = metadata.get("author", "")
    facts = {
        name: {"core_count": v.spec.core_count, "precision": v.precision, "image_size": list(v.spec.image_size)}
        for name, v in functions.items()
    }
    written.userDefined.update(
        {
            **metadata,
            "input": _input_text(first.input),
            "outputs": ",".join(first.outputs),
            "layout": options.layout,
            "functions": json.dumps(facts),
        }
    )
    described = {f.name: f for f in model.description.functions} or {"main": model.description}
    for name, features in described.items():
        for feature in (*features.input, *features.output):
            feature.shortDescription = _feature_text(feature.name, functions[name])
    specification_path(path).write_bytes(model.SerializeToString(deterministic=True))
    _name_items(path / MANIFEST)


def _name_items(manifest: Path) -> None:
    """Gives the items of a package identifiers that follow from their paths.

    coremltools draws new ones for every package; without them, exporting the same weights again gives the same bytes.
    """
    content = json.loads(manifest.read_text(encoding="utf-8"))
    named = {key: str(uuid5(NAMESPACE_OID, item["path"])).upper() for key, item in content["itemInfoEntries"].items()}
    content["itemInfoEntries"] = {named[key]: item for key, item in content["itemInfoEntries"].items()}
    content["rootModelIdentifier"] = named[content["rootModelIdentifier"]]
    manifest.write_text(json.dumps(content, indent=4, sort_keys=True), encoding="utf-8")


def _input_text(input: str) -> str:
    return (
        "RGB image; scaling and normalisation are inside"
        if input == "image"
        else "float32 [B, 3, H, W], normalised with mean and std"
    )


def _feature_text(name: str, variant: Variant) -> str:
    size, count = variant.spec.image_size, variant.spec.core_count
    return {
        "image": f"Camera frame, {size.height} rows of {size.width} pixels: {_input_text(variant.spec.input)}.",
        "cls": f"Feature of the whole image, from the first of {count} core tokens.",
        "dense": "One feature per patch, row by row.",
        "logits": "Class scores before softmax.",
        "segmentation": f"The class of every square of {variant.spec.map_stride} pixels.",
        "segmentation_logits": "Class scores of every patch, before upsampling and softmax.",
        "depth": f"Metres, for every square of {variant.spec.map_stride} pixels.",
        "attention": "How much of their attention the core tokens give each patch.",
        "label": "The most likely class.",
        "label_probs": "Probability of every class.",
    }[name]


def _details(package: MlPackage, function: str, options: CoremlOptions) -> dict[str, Any]:
    """JSON facts about one function of a package."""
    counts = Counter(op.type for op in package.functions[function].operations if op.type != "const")
    return {
        "ios": options.ios,
        "layout": options.layout,
        "coordinates": options.coordinates,
        "default_function": package.default_function,
        "operations": dict(sorted(counts.items())),
    }


# ------------------------------------------------------------------------- the check of the numbers


def _check_numbers(package: MlPackage, functions: Mapping[str, Variant]) -> None:
    """Compares every INT8 code and scale of a package as it lies on disk. A difference is a bug, not a user's error."""
    for name, variant in functions.items():
        if variant.precision == "fp16":
            continue
        written = quantized_layers(package.functions[name])
        for layer in variant.weights.linears.values():
            if layer.quantization is not None:
                _check_layer(name, layer, written, variant.precision)


@dataclass(frozen=True)
class WrittenLayer:
    """A quantized layer as a package holds it: int8 `codes` `[out, in]`, FP16 `weight_scale` `[out]`, and FP16
    `activation_scale`, None where activations are not quantized."""

    codes: np.ndarray
    weight_scale: np.ndarray
    activation_scale: np.float16 | None


def quantized_layers(function: Function) -> dict[str, WrittenLayer]:
    """The INT8 layers of a saved function, by operation name."""
    constants = function.constants
    made_by = {name: op for op in function.operations for name in op.outputs}
    layers = {}
    for op in function.operations:
        if op.type not in ("linear", "conv"):
            continue
        weight = _maker(op, "weight", made_by)
        if weight is None or weight.type != "constexpr_blockwise_shift_scale":
            continue
        source = _maker(op, "x", made_by)
        scale: Any = None
        if source is not None and source.type == "dequantize":
            makers = [q for q in (_maker(source, "input", made_by), source) if q is not None]
            scales = [_value(q.inputs["scale"][0], constants)[()] for q in makers]
            if len(scales) != 2 or scales[0] != scales[1]:
                raise AssertionError(f"'{op.name}' quantizes and dequantizes with {scales}")
            scale = scales[0]
        codes = _value(weight.inputs["data"][0], constants)
        layers[op.name] = WrittenLayer(
            codes.reshape(codes.shape[:2]), _value(weight.inputs["scale"][0], constants).reshape(-1), scale
        )
    return layers


def _maker(op: Operation, parameter: str, made_by: Mapping[str, Operation]) -> Operation | None:
    """The operation that made an input, or None where it is a constant or an input of the function."""
    bound = op.inputs[parameter][0]
    return made_by.get(bound) if isinstance(bound, str) else None


def _value(bound: str | Constant, constants: Mapping[str, Constant]) -> np.ndarray:
    return (constants[bound] if isinstance(bound, str) else bound).value


def _check_layer(function: str, layer: Linear, written: Mapping[str, WrittenLayer], precision: str) -> None:
    q = layer.quantization
    assert q is not None
    name = identifier(layer.name)
    # The last block asks for queries and for keys and values of different rows: two operations, one layer.
    parts = [written[n] for n in (name, f"{name}_queries", f"{name}_keys_values") if n in written]
    codes = np.concatenate([p.codes for p in parts]) if parts else np.zeros((0, 0))
    scales = np.concatenate([p.weight_scale for p in parts]) if parts else np.zeros(0)
    expected = half_scale(q.weight_scale, layer.name)
    activation = half_scale(np.array(q.activation_scale), layer.name)[()]
    if not (np.array_equal(codes, q.codes) and np.array_equal(scales, expected)):
        raise AssertionError(f"the package's INT8 weights of '{layer.name}' in '{function}' are not the recipe's")
    if precision == "int8" and any(p.activation_scale != activation for p in parts):
        raise AssertionError(f"the package's activation scale of '{layer.name}' in '{function}' is not the recipe's")
