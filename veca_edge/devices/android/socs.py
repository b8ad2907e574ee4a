"""SoCs of Android phones as plain data, and what the NPU compilers call them.

No INT8 peak of these NPUs that Qualcomm itself publishes is known to us, and no memory bandwidth that a phone sustains
("45 TOPS" and the like are of other products, or of the press). So there is no estimate here as there is of Jetson
modules: the speed of a phone is measured. Cores and clocks are as they were announced; makers of phones change the
latter.
"""

from __future__ import annotations

from dataclasses import dataclass

_QUALCOMM = "Qualcomm's announcement of the platform"


@dataclass(frozen=True)
class Soc:
    """One SoC.

    Attributes:
        name: as `ro.soc.model` says it; sold_as: what its maker calls it.
        cpu: count, kind and highest clock of the cores, the fastest first.
        soc_model, htp_arch: its number for Qualcomm's compiler, and the version of its Hexagon Tensor Processor
            (QNN_SOC_MODEL_* of the QAIRT SDK's QnnTypes.h, as github.com/pytorch/executorch lists them with their
            versions in backends/qualcomm/serialization/qc_schema.py).
        int8_tops: the INT8 peak of the NPU as its maker publishes it, or None.
        source: of what the hardware is.
    """

    name: str
    sold_as: str
    cpu: str
    gpu: str
    npu: str
    soc_model: int
    htp_arch: int
    int8_tops: float | None = None
    source: str = _QUALCOMM


SOCS = {
    soc.name: soc
    for soc in (
        Soc(
            "SM8450",
            "Snapdragon 8 Gen 1",
            "1x Cortex-X2 3.0 GHz, 3x A710 2.5, 4x A510 1.8",
            "Adreno 730",
            "Hexagon v69",
            36,
            69,
        ),
        Soc(
            "SM8475",
            "Snapdragon 8+ Gen 1",
            "1x Cortex-X2 3.2 GHz, 3x A710 2.75, 4x A510 2.0",
            "Adreno 730",
            "Hexagon v69",
            42,
            69,
        ),
        Soc(
            "SM8550",
            "Snapdragon 8 Gen 2",
            "1x Cortex-X3 3.2 GHz, 2x A715 and 2x A710 2.8, 3x A510 2.0",
            "Adreno 740",
            "Hexagon v73",
            43,
            73,
        ),
        Soc(
            "SM8650",
            "Snapdragon 8 Gen 3",
            "1x Cortex-X4 3.3 GHz, 5x A720 to 3.2, 2x A520 2.3",
            "Adreno 750",
            "Hexagon v75",
            57,
            75,
        ),
        Soc("SM8750", "Snapdragon 8 Elite", "2x Oryon 4.32 GHz, 6x Oryon 3.53", "Adreno 830", "Hexagon v79", 69, 79),
        Soc(
            "SM8850", "Snapdragon 8 Elite Gen 5", "2x Oryon 4.6 GHz, 6x Oryon 3.62", "Adreno 840", "Hexagon v81", 87, 81
        ),
    )
}
