"""`veca-edge devices`."""

from __future__ import annotations

from . import options
from .console import Column, command


def devices(json: options.Json = False, debug: options.Debug = False) -> None:
    """List the known Jetson modules, JetPacks and SoCs of phones."""
    with command(json, debug) as terminal:
        from ..devices.android.socs import SOCS
        from ..devices.jetson.modules import DEFAULT_JETPACK, JETPACKS, MODULES

        terminal.table(
            [
                Column("module", False),
                Column("SM", False),
                Column("GB"),
                Column("GB/s"),
                Column("INT8 TOPS"),
                Column("JetPack", False),
            ],
            [
                [
                    m.name,
                    m.compute_capability,
                    m.ram_gb,
                    with_super(m.bandwidth_gbs, m.super_bandwidth_gbs),
                    with_super(m.int8_tops(), m.int8_tops(super_mode=True)),
                    ", ".join(m.jetpacks),
                ]
                for m in MODULES.values()
            ],
            "Modules (in Super mode); TOPS are dense peaks derived from SMs and clock",
        )
        terminal.table(
            [Column("JetPack", False), Column("L4T", False), Column("TensorRT", False), Column("CUDA", False)],
            [[j.version, j.l4t, j.tensorrt, j.cuda] for j in JETPACKS.values()],
        )
        terminal.table(
            [Column(name, False) for name in ("SoC", "sold as", "CPU", "GPU", "NPU", "INT8 TOPS")],
            [[s.name, s.sold_as, s.cpu, s.gpu, s.npu, s.int8_tops or "not published"] for s in SOCS.values()],
            "SoCs of phones, as --npu takes them",
        )
        terminal.next(f"veca-edge export --cores 16 --target jetson --jetpack {DEFAULT_JETPACK}")
        terminal.result(
            {
                "modules": [
                    {
                        "name": m.name,
                        "family": m.family,
                        "compute_capability": m.compute_capability,
                        "ram_gb": m.ram_gb,
                        "bandwidth_gbs": m.bandwidth_gbs,
                        "int8_tops": m.int8_tops(),
                        "super_int8_tops": m.int8_tops(super_mode=True),
                        "jetpacks": m.jetpacks,
                    }
                    for m in MODULES.values()
                ],
                "jetpacks": list(JETPACKS.values()),
                "socs": list(SOCS.values()),
            }
        )


def with_super(normal: float | None, boosted: float | None) -> str:
    if normal is None:
        return "?"
    return f"{normal:.0f}" if boosted is None or boosted == normal else f"{normal:.0f} ({boosted:.0f})"
