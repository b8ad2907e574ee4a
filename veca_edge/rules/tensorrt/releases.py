"""TensorRT's releases, and what each reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ...base.errors import EdgeError
from ...base.version_numbers import parse_version

T = TypeVar("T")
Version = tuple[int, int]
OLDEST: Version = (8, 5)

# What each release reads, from the first release that reads it: the highest operator set (docs/operators.md of
# that release's onnx-tensorrt) and the IR version of the ONNX release it was built with (docs/Changelog.md).
OPSETS = {(8, 5): 17, (10, 0): 20, (10, 6): 22, (10, 15): 24, (11, 0): 25}
IR_VERSIONS = {(8, 5): 8, (9, 0): 9, (10, 0): 10, (10, 15): 12, (11, 0): 13}
OLDEST_OPSET = 9
# The quantized types besides INT8, by ONNX's names, and the first release that reads each: onnx-tensorrt's
# docs/Changelog.md (9.0 GA: FP8; 10.0 EA: INT4) and the release notes of TensorRT 10.8.0 (E2M1 FP4).
QUANTIZED_TYPES: dict[str, Version] = {"FLOAT8E4M3FN": (9, 0), "INT4": (10, 0), "FLOAT4E2M1": (10, 8)}

# Operators that the release's docs/operators.md lists as unsupported.
NEVER = """
    Bernoulli BitShift Compress ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear MatMulInteger MaxRoiPool
    MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement
    QLinearConv QLinearMatMul SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength
    SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringNormalizer TfIdfVectorizer Unique
    AffineGrid BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im ImageDecoder RegexFullMatch StringConcat
    StringSplit"""
UNTIL_86 = "HardSwish IsInf LayerNormalization Mod OneHot"
UNTIL_9 = "Hardmax"
UNTIL_104 = "BlackmanWindow HammingWindow HannWindow"
UNTIL_105 = "STFT"
UNSUPPORTED = {
    release: frozenset(" ".join(lists).split())
    for release, lists in {
        (8, 5): (NEVER, UNTIL_105, UNTIL_104, UNTIL_9, UNTIL_86),
        (8, 6): (NEVER, UNTIL_105, UNTIL_104, UNTIL_9),
        (10, 0): (NEVER, UNTIL_105, UNTIL_104),
        (10, 4): (NEVER, UNTIL_105),
        (10, 5): (NEVER,),
    }.items()
}


def tensorrt_version(text: str) -> Version:
    """`10.3` or `10.3.0.30` as (10, 3). Raises `EdgeError` when it is not a version or older than 8.5."""
    try:
        release = parse_version(text).release
    except EdgeError:
        release = ()
    # Numbers alone: packages are versioned with more (v10.3, 10.3rc1, 1!10.3, 10.3+cuda), releases are not.
    if len(release) < 2 or max(release[:2]) > 999 or ".".join(map(str, release)) != text.strip():
        raise EdgeError(f"'{text[:60]}' is not a TensorRT version.", "Give it as major.minor, for example 10.3.")
    version = release[0], release[1]
    if version < OLDEST:
        raise EdgeError(
            f"TensorRT {text} is older than 8.5, the oldest release that veca-edge writes for.",
            "JetPack 5.1 brings TensorRT 8.5.",
        )
    return version


def known_for(table: Mapping[Version, T], version: Version) -> T:
    """The entry of the newest release that is not newer than `version`."""
    return table[max(release for release in table if release <= version)]
