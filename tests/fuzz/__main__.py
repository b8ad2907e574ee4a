"""`python -m tests.fuzz --seconds N`: damaged inputs for a night, and what became of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does: the builders of bundles lie there

from .kinds import kinds
from .run import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="over all kinds")
    parser.add_argument("--inputs", type=int, default=10**9, help="over all kinds, where that is sooner")
    parser.add_argument("--kind", action="append", choices=sorted(kinds()), help="only these")
    parser.add_argument("--seed", type=int, help="for the same inputs again")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="where to keep what broke something")
    given = parser.parse_args()
    tallies = fuzz(given.seconds, given.inputs, given.kind, given.found, given.seed)
    total, broken = sum(t.count for t in tallies.values()), sum(len(t.broken) for t in tallies.values())
    print(f"{total} inputs, {broken} broken{f'; they are in {given.found}' if broken else ''}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
