"""Runs models. Needs only the runtime of the artifact's format; ONNX files never need torch."""

from __future__ import annotations

from ..base.moved import moved

# What stood here before there was `veca_edge.load`.
__getattr__ = moved(
    __name__,
    {
        "load": "veca_edge.actions.load:load_bundle",
        "open_runner": "veca_edge.targets.table:open_artifact",
        "Model": "veca_edge.runtime.model:Model",
        "Output": "veca_edge.runtime.model:Output",
        "Runner": "veca_edge.bundle.runner:Runner",
        "Decision": "veca_edge.runtime.governor:Decision",
        "Governor": "veca_edge.runtime.governor:Governor",
        "Rules": "veca_edge.runtime.governor:Rules",
    },
)
