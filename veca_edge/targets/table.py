"""The targets, as a plain table."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.errors import EdgeError, unknown_name


@dataclass(frozen=True)
class Target:
    """A kind of device that models are exported for.

    Attributes:
        runtime: what loads the artifact on the device.
        precisions: every precision that can be asked for, the lowest first.
        extra: the pip extra that brings everything an export for it needs.
    """

    name: str
    runtime: str
    precisions: tuple[str, ...]
    default_precision: str
    extra: str
    summary: str


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "cpu", "ONNX Runtime", ("int8", "fp32"), "int8", "export", "any x86-64 or Arm CPU, through ONNX Runtime"
        ),
        Target("jetson", "TensorRT", ("int8", "fp16", "fp32"), "int8", "jetson", "NVIDIA Jetson, through TensorRT"),
        Target("apple", "Core ML", ("int8", "w8", "fp16"), "int8", "apple", "iPhone, iPad and Mac, through Core ML"),
    )
}


def target_named(name: str) -> Target:
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS)
    return TARGETS[name]


def check_precision(target: Target, precision: str) -> None:
    if precision not in target.precisions:
        raise EdgeError(
            f"The target '{target.name}' has no precision '{precision}'.", f"Known: {', '.join(target.precisions)}."
        )
