"""The quantization recipe: what calibration decided, as data, for every target and core count.

One set of weights serves all core counts, so that variants can share them; only the activation scales
are each core count's own. A recipe is one small safetensors file.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import EdgeError, unknown_name
from ..base.json_files import parse_json
from ..model.folding import InferenceWeights, Linear, LinearQuantization, pixel_layer, smoothed

FORMAT = "veca-edge quantization recipe"
VERSION = 1
CODE_MAX = 127
PATCHES = "patch_embed"
CALIBRATE = "Give a recipe that veca-edge wrote, or calibrate again."


@dataclass(frozen=True)
class LinearRecipe:
    """INT8 of one linear layer.

    Attributes:
        smoothing: float32 `[in]`: the input is divided by it and the weight's columns multiplied.
        weight_scale: float32 `[out]`: of the weights after every layer's smoothing is folded in.
        activation_scale: per core count, the input's per-tensor scale (symmetric, after smoothing).
        rounding: int8 `[out, in]`, what is added to the codes of rounding to nearest, or None.
        bias_correction: float32 `[out]`, added to the bias where the layer runs in INT8, or None.
        input_peak: the largest magnitude of the input after smoothing that calibration saw, at any core count;
            output_peak: float32 `[out]`, that of each output channel, without the bias. None in recipes before 0.2.
    """

    smoothing: np.ndarray
    weight_scale: np.ndarray
    activation_scale: Mapping[int, float]
    rounding: np.ndarray | None = None
    bias_correction: np.ndarray | None = None
    input_peak: float | None = None
    output_peak: np.ndarray | None = None


@dataclass(frozen=True)
class PatchRecipe:
    """INT8 of the patch convolution on pixels, see `InferenceWeights.patch_quantization`.

    Attributes:
        weight_scale: float32 `[D]`.
        rounding: int8 `[D, P * P * 3]`, what is added to the codes of rounding to nearest, or None.
    """

    weight_scale: np.ndarray
    rounding: np.ndarray | None = None


@dataclass(frozen=True)
class CalibrationFacts:
    """What a recipe was made from.

    Attributes:
        checkpoint_digest: sha256 of the checkpoint file.
        image_digests: sha256 of every calibration image file.
        image_sizes: `HxW` of every size calibrated at.
        image_count: images used.
        seed: of the sample, None where all images were taken.
        tools: versions of the packages that took part.
    """

    checkpoint_digest: str = ""
    image_digests: tuple[str, ...] = ()
    image_sizes: tuple[str, ...] = ()
    image_count: int = 0
    seed: int | None = None
    tools: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizationRecipe:
    """How every linear layer is quantized, and where that was learned.

    Attributes:
        linears: by layer name; layers that are not here stay float.
        core_counts: those that every layer has an activation scale for.
        method: `search` or `nncf`.
        options: the method's settings (JSON values).
        patches: of the patch convolution, None in recipes before 0.2 and of NNCF.
    """

    linears: Mapping[str, LinearRecipe]
    core_counts: tuple[int, ...]
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: CalibrationFacts = field(default_factory=CalibrationFacts)
    patches: PatchRecipe | None = None

    def save(self, path: str | Path, keep_rounding: bool = True) -> None:
        """Writes the recipe as one safetensors file, aside first, then renamed.

        Args:
            keep_rounding: without it the file holds no rounding (most of its bytes), and what it yields is rounded to
                nearest.
        """
        from safetensors.numpy import save

        tensors, scales = {}, {}
        for name, linear in self.linears.items():
            tensors[f"{name}/smoothing"] = linear.smoothing
            tensors[f"{name}/weight_scale"] = linear.weight_scale
            if linear.bias_correction is not None:
                tensors[f"{name}/bias_correction"] = linear.bias_correction
            if linear.input_peak is not None and linear.output_peak is not None:
                tensors[f"{name}/input_peak"] = np.array([linear.input_peak], np.float32)
                tensors[f"{name}/output_peak"] = linear.output_peak
            if linear.rounding is not None and keep_rounding:
                tensors[f"{name}/rounding"] = _packed(linear.rounding)
            scales[name] = {str(count): scale for count, scale in linear.activation_scale.items()}
        if self.patches is not None:
            tensors[f"{PATCHES}/weight_scale"] = self.patches.weight_scale
            if self.patches.rounding is not None and keep_rounding:
                tensors[f"{PATCHES}/rounding"] = self.patches.rounding
        described = {
            "format": FORMAT,
            "version": VERSION,
            "core_counts": list(self.core_counts),
            "method": self.method,
            "options": dict(self.options),
            "facts": asdict(self.facts),
            "activation_scale": scales,
        }
        path = Path(path)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            aside.write_bytes(save(tensors, {"recipe": json.dumps(described, sort_keys=True)}))
            os.replace(aside, path)
        except OSError as error:
            raise EdgeError(
                f"The recipe {path} can't be written: {error}", "Is there room on the disk, and may you write there?"
            ) from error
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> QuantizationRecipe:
        """Reads what `save` wrote. Raises `EdgeError` for anything else."""
        import safetensors

        path = Path(path)
        if not path.is_file():
            raise EdgeError(f"There is no recipe file {path}.", CALIBRATE)
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                described = parse_json((file.metadata() or {}).get("recipe", "{}"))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
            # The last two: types that NumPy does not have.
            raise EdgeError(f"{path} is not a quantization recipe, or is damaged: {error}", CALIBRATE) from error
        if not isinstance(described, dict) or described.get("format") != FORMAT:
            raise EdgeError(f"{path} is not a quantization recipe.", CALIBRATE)
        version = described.get("version")
        if version != VERSION:
            raise EdgeError(
                f"The recipe {path} has version {version}; this veca-edge reads version {VERSION}.",
                "Calibrate again, or use the version that wrote it.",
            )
        try:
            counts = tuple(_checked(count, int) for count in _checked(described["core_counts"], list))
            linears = {
                name: _linear(tensors, name, _checked(scales, dict), counts)
                for name, scales in _checked(described["activation_scale"], dict).items()
            }
            method, options = _checked(described["method"], str), _checked(described["options"], dict)
            facts = _facts(_checked(described["facts"], dict))
            return cls(linears, counts, method, options, facts, _patches(tensors))
        except (KeyError, TypeError, ValueError, OverflowError, zlib.error) as error:
            raise EdgeError(f"The recipe {path} is damaged: {error!r}", CALIBRATE) from error


def quantized_variants(
    weights: InferenceWeights,
    recipe: QuantizationRecipe,
    core_counts: Iterable[int] | None = None,
    keep_float: Collection[str] = (),
) -> dict[int, InferenceWeights]:
    """The weights of every core count: smoothing folded in, and INT8 on every layer of the recipe.

    All of them share every array but the activation scales, which are single numbers.

    Args:
        core_counts: those of the recipe by default.
        keep_float: names of layers that stay float; their smoothing is folded all the same, which is exact.

    Raises:
        EdgeError: the recipe has no scales for a core count, or was made for another model.
    """
    counts = recipe.core_counts if core_counts is None else tuple(core_counts)
    for count in counts:
        if count not in recipe.core_counts:
            raise EdgeError(
                f"The quantization recipe has no activation scales for {count} cores.",
                f"It was calibrated for: {', '.join(map(str, recipe.core_counts))}.",
            )
    _check_fits(weights, recipe)
    for name in keep_float:
        if name not in weights.linears:
            raise unknown_name("layer", name, weights.linears)
    folded = smoothed(weights, {name: linear.smoothing for name, linear in recipe.linears.items()})
    if recipe.patches is not None:
        folded = replace(folded, patch_quantization=_quantized_patches(weights, recipe.patches))
    linears = {
        name: _quantized(folded.linears[name], linear)
        for name, linear in recipe.linears.items()
        if name not in keep_float
    }
    return {
        count: folded.with_linears(
            {name: _at(linear, recipe.linears[name].activation_scale[count]) for name, linear in linears.items()}
        )
        for count in counts
    }


def quantized(
    weights: InferenceWeights, recipe: QuantizationRecipe, core_count: int, keep_float: Collection[str] = ()
) -> InferenceWeights:
    """The weights of one core count; for several, `quantized_variants` lets them share their arrays."""
    return quantized_variants(weights, recipe, (core_count,), keep_float)[core_count]


def nearest_codes(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Codes `[out, in]` in -127..127 of rounding to nearest (as float32): what `rounding` is relative to."""
    return np.clip(np.rint(weight / scale[:, None]), -CODE_MAX, CODE_MAX)


def _codes(weight: np.ndarray, recipe: LinearRecipe | PatchRecipe) -> np.ndarray:
    codes = nearest_codes(weight, recipe.weight_scale)
    if recipe.rounding is not None:
        codes = np.clip(codes + recipe.rounding, -CODE_MAX, CODE_MAX)
    return codes.astype(np.int8)


def _quantized(layer: Linear, recipe: LinearRecipe) -> Linear:
    codes = _codes(layer.weight, recipe)
    bias = layer.bias if recipe.bias_correction is None else layer.bias + recipe.bias_correction
    made = LinearQuantization(codes, recipe.weight_scale, 0.0, recipe.input_peak, recipe.output_peak)
    return replace(layer, bias=bias, quantization=made)


def _quantized_patches(weights: InferenceWeights, recipe: PatchRecipe) -> LinearQuantization:
    codes = _codes(pixel_layer(weights).weight.astype(np.float32), recipe)
    return LinearQuantization(codes, recipe.weight_scale, activation_scale=1.0)


def _at(layer: Linear, activation_scale: float) -> Linear:
    assert layer.quantization is not None
    return replace(layer, quantization=replace(layer.quantization, activation_scale=activation_scale))


def _check_fits(weights: InferenceWeights, recipe: QuantizationRecipe) -> None:
    known = weights.linears
    for name, linear in recipe.linears.items():
        shape = (len(linear.weight_scale), len(linear.smoothing))
        if name not in known or known[name].weight.shape != shape:
            raise EdgeError(
                f"The quantization recipe was made for another model: its layer '{name}' is {list(shape)}.",
                "Calibrate this checkpoint.",
            )
    if (patches := recipe.patches) is None:
        return
    expected = weights.patch_weight.reshape(len(weights.patch_weight), -1).shape
    shape = (len(patches.weight_scale), expected[1]) if patches.rounding is None else patches.rounding.shape
    if shape != expected:
        raise EdgeError(
            f"The quantization recipe was made for another model: its patch convolution is {list(shape)}.",
            "Calibrate this checkpoint.",
        )


def _packed(rounding: np.ndarray) -> np.ndarray:
    """Deltas are -1, 0, 1 and hardly ever more: entropy coding alone brings them below 2 bits each."""
    coder = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(coder.compress(rounding.astype(np.int8).tobytes()) + coder.flush(), np.uint8)


def _unpacked(packed: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The rounding `[out, in]`; no more is decompressed than that has bytes."""
    expected = shape[0] * shape[1]
    coder = zlib.decompressobj()
    content = coder.decompress(packed.tobytes(), expected + 1)
    if len(content) != expected or not coder.eof:
        raise ValueError(f"a rounding does not have the {expected} bytes of its layer")
    return np.frombuffer(content, np.int8).reshape(shape)


def _linear(
    tensors: Mapping[str, np.ndarray], name: str, scales: Mapping[str, object], counts: Collection[int]
) -> LinearRecipe:
    smoothing, weight_scale = (_positive(tensors, f"{name}/{part}") for part in ("smoothing", "weight_scale"))
    packed, correction = tensors.get(f"{name}/rounding"), tensors.get(f"{name}/bias_correction")
    if packed is not None and (packed.dtype != np.uint8 or packed.ndim != 1):
        raise ValueError(f"'{name}/rounding' is {packed.dtype} {list(packed.shape)}")
    if correction is not None and (correction.dtype != np.float32 or correction.shape != weight_scale.shape):
        raise ValueError(f"'{name}/bias_correction' is {correction.dtype} {list(correction.shape)}")
    if correction is not None and not np.isfinite(correction).all():
        raise ValueError(f"'{name}/bias_correction' holds an infinity or a NaN")
    read = {int(count): float(_checked(scale, int, float)) for count, scale in scales.items()}
    if set(read) != set(counts) or not all(0 < scale < float(np.finfo(np.float32).max) for scale in read.values()):
        raise ValueError(f"'{name}' does not have one positive activation scale for every core count")
    rounding = None if packed is None else _unpacked(packed, (len(weight_scale), len(smoothing)))
    return LinearRecipe(smoothing, weight_scale, read, rounding, correction, *_peaks(tensors, name, len(weight_scale)))


def _patches(tensors: Mapping[str, np.ndarray]) -> PatchRecipe | None:
    key, rounding = f"{PATCHES}/weight_scale", tensors.get(f"{PATCHES}/rounding")
    if key not in tensors:
        return None
    scale = _positive(tensors, key)
    if rounding is not None and (rounding.dtype != np.int8 or rounding.ndim != 2 or len(rounding) != len(scale)):
        raise ValueError(f"'{PATCHES}/rounding' is {rounding.dtype} {list(rounding.shape)}")
    return PatchRecipe(scale, rounding)


def _peaks(tensors: Mapping[str, np.ndarray], name: str, channels: int) -> tuple[float | None, np.ndarray | None]:
    keys = (f"{name}/input_peak", f"{name}/output_peak")
    if not any(key in tensors for key in keys):
        return None, None
    for key, shape in zip(keys, ((1,), (channels,)), strict=True):
        array = tensors[key]
        if array.dtype != np.float32 or array.shape != shape or not (np.isfinite(array).all() and (array >= 0).all()):
            raise ValueError(f"'{key}' is {array.dtype} {list(array.shape)}, or holds what is no magnitude")
    return float(tensors[keys[0]][0]), tensors[keys[1]]


def _positive(tensors: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    array = tensors[key]
    if array.dtype != np.float32 or array.ndim != 1 or not array.size:
        raise ValueError(f"'{key}' is {array.dtype} {list(array.shape)}")
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(f"'{key}' holds a number that is not positive and finite")
    return array


def _facts(value: Mapping[str, Any]) -> CalibrationFacts:
    kinds = {"checkpoint_digest": str, "image_digests": list, "image_sizes": list, "image_count": int, "tools": dict}
    for key, kind in kinds.items():
        _checked(value[key], kind)
    _checked(value["seed"], int, type(None))
    texts = [*value["image_digests"], *value["image_sizes"], *value["tools"].values()]
    for text in texts:
        _checked(text, str)
    facts: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
    return CalibrationFacts(**facts)


def _checked(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError(f"{value!r:.60} is not of the type {' or '.join(kind.__name__ for kind in kinds)}")
    return value
