"""How a command is given a cluster. Imports nothing heavy, so that a command line can be made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..base.options import option

CLUSTERS = "tcp://SCHEDULER:8786, local:WORKERS or ssh:HOST*WORKERS"


def cluster_option() -> Any:
    """A field for the address of a cluster; None is this process."""
    return option(None, f"Run on a Dask cluster: {CLUSTERS}.", metavar="CLUSTER")


@dataclass(frozen=True)
class ClusterOptions:
    """For a command whose request does not say where it runs."""

    cluster: str | None = cluster_option()
