"""``python -m benchmarks.parity``: one table of how the published package's numbers and ours agree."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interpreters import ROOT, Interpreter, ours, upstream
from benchmarks.parity import golden
from benchmarks.parity.compare import Side, Verdict, judge
from benchmarks.parity.known import KNOWN


def start(interpreter: Interpreter, out: Path, only: str) -> subprocess.Popen[bytes]:
    """A worker that runs every case in one interpreter."""
    command = interpreter.command("benchmarks.parity.worker", str(out), "--only", only)
    return subprocess.Popen(command, cwd=ROOT, env=interpreter.environment(threads=1))


def load(out: Path) -> tuple[dict[str, Any], dict[str, Side]]:
    """What a worker wrote: its description and one :class:`Side` per case."""
    meta = json.loads(out.with_suffix(".json").read_text())
    sides: dict[str, Side] = {}
    with np.load(out.with_suffix(".npz")) as numbers:
        for index, record in enumerate(meta["records"]):
            sides[record["id"]] = Side(record, [numbers[f"{index}.{i}"] for i in range(record["arrays"])])
    return meta, sides


def table(verdicts: Iterable[Verdict]) -> str:
    """One line per algorithm."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.algorithm.rpartition(":")[2]].append(verdict)
    lines = [f"{'algorithm':<40} {'cases':>5} {'skip':>5} {'absolute':>9} {'relative':>9}  verdict"]
    for algorithm, group in groups.items():
        plain = [verdict for verdict in group if verdict.kind == "ok"]
        absolute = max((verdict.absolute for verdict in plain), default=0.0)
        relative = max((verdict.relative for verdict in plain), default=0.0)
        skipped = sum(verdict.kind == "skipped" for verdict in group)
        verdict = _summary(group)
        lines.append(f"{algorithm:<40} {len(group):>5} {skipped:>5} {absolute:>9.1e} {relative:>9.1e}  {verdict}")
    return "\n".join(lines)


def _summary(group: list[Verdict]) -> str:
    different = sum(verdict.kind == "different" for verdict in group)
    if different:
        return f"DIFFERENT in {different}"
    names = Counter(verdict.known for verdict in group if verdict.kind == "known")
    if names:
        return "known: " + ", ".join(f"{name} ({count})" for name, count in sorted(names.items()))
    return "skipped" if all(verdict.kind == "skipped" for verdict in group) else "ok"


def explain(verdicts: list[Verdict]) -> str:
    """The meant differences that were seen, with their reasons; those that were not."""
    lines: list[str] = []
    for entry in KNOWN:
        seen = [verdict for verdict in verdicts if entry.name in verdict.known.split(", ")]
        worst = max((verdict.relative for verdict in seen), default=0.0)
        held = entry.mend is not None or entry.like or entry.complete
        mended = "held to the right numbers" if held else f"largest share of the scale {worst:.1e}"
        lines.append(f"  {entry.name}: {len(seen)} cases, {mended}. {entry.reason}")
    return "\n".join(lines)


def check_published(label: str, sides: dict[str, Side]) -> list[str]:
    """Cases whose numbers are published and not met."""
    found = {case: golden.misses(case, sides[case].arrays) for case in golden.GOLDEN if case in sides}
    return [f"{label} {case}: off by {gap:.2g}" for case, gap in found.items() if gap is not None]


def main() -> int:
    """Run both sides, print, and return 1 when anything is unexplained."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument(
        "--only", default="*", help="run only the cases whose id matches this pattern, as in 'Saliency/*'"
    )
    parser.add_argument("--keep", type=Path, default=None, help="keep the two result files in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = options.keep or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        pair = (upstream(), ours())
        workers = [start(interpreter, home / interpreter.side, options.only) for interpreter in pair]
        codes = [worker.wait() for worker in workers]
        if any(codes):
            print("a worker stopped before the end", file=sys.stderr)
            return 1
        (there, left), (here, right) = load(home / "upstream"), load(home / "ours")
    if there["models"] != here["models"] or there["torch"] != here["torch"]:
        print(f"the two interpreters do not build the same models: torch {there['torch']} and {here['torch']}")
        return 1
    verdicts = [judge(side, right[case], left) for case, side in left.items()]
    print(table(verdicts))
    print(f"\nMeant differences:\n{explain(verdicts)}")
    published = check_published("published package:", left) + check_published("here:", right)
    print(f"\nPublished numbers: {len(golden.GOLDEN)} cases, {len(published)} missed", *published, sep="\n  ")
    return report(verdicts, published)


def report(verdicts: list[Verdict], published: list[str]) -> int:
    """The last lines and the exit code."""
    different = [verdict for verdict in verdicts if verdict.kind == "different"]
    for verdict in different:
        gap = f" (absolute {verdict.absolute:.1e}, relative {verdict.relative:.1e})" if verdict.absolute else ""
        print(f"DIFFERENT {verdict.case}: {verdict.note[:300]}{gap}")
    counts = Counter(verdict.kind for verdict in verdicts)
    missing = sorted({verdict.note for verdict in verdicts if verdict.kind == "skipped"})
    if missing:
        print(f"\nSkipped while not exported: {'; '.join(missing)}")
    print(f"\n{len(verdicts)} cases: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    return 1 if different or any(line.startswith("here") for line in published) else 0


if __name__ == "__main__":
    sys.exit(main())
