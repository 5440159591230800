"""``python -m benchmarks.bench``: ratios against the published package and bare torch, with required bounds."""

from __future__ import annotations

import argparse
import os
import sys

from benchmarks import interpreters
from benchmarks.bench import imports, table
from benchmarks.bench.drive import Outcome, Run, Worker
from benchmarks.bench.task import OURS, UPSTREAM
from benchmarks.bench.tasks import TASKS

OUTPUT = interpreters.ROOT / "bench-output"
PAGE = interpreters.ROOT / "docs" / "benchmarks.md"
IMPORTS = "imports"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    names = [*TASKS, IMPORTS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="two repeats instead of the task's own number")
    parser.add_argument("--threads", type=int, default=None, help="threads per process (the machine's own number)")
    parser.add_argument("--size", type=int, default=None, help="image side; 224 is what the bounds are about")
    parser.add_argument("--peers", action="store_true", help="install the optional peer library (shap) first")
    parser.add_argument("--write", action="store_true", help="also write docs/benchmarks.md (whole runs at full size)")
    return parser.parse_args()


def measure(options: argparse.Namespace, pair: dict[str, interpreters.Interpreter]) -> tuple[list[Outcome], dict]:
    """Every chosen task, with what the workers say about themselves."""
    chosen = [task for name, task in TASKS.items() if not options.only or name in options.only]
    outcomes: list[Outcome] = []
    with Worker(pair[UPSTREAM], options.threads) as there, Worker(pair[OURS], options.threads) as here:
        run = Run({UPSTREAM: there, OURS: here}, pair, options.quick, options.threads)
        for task in chosen:
            print(f"… {task.title}", file=sys.stderr, flush=True)
            outcomes.append(run.measure(task))
        return outcomes, here.about


def main() -> int:
    """Measure, write the table, return 1 when a bound is missed."""
    options = arguments()
    if options.size is not None:
        os.environ["BENCH_SIZE"] = str(options.size)
    if options.peers:
        interpreters.install_peers()
    pair = {UPSTREAM: interpreters.upstream(), OURS: interpreters.ours()}
    outcomes, about = measure(options, pair)
    wanted = not options.only or IMPORTS in options.only
    overhead = imports.measure(pair, 3 if options.quick else 9) if wanted else None
    text = table.report(outcomes, overhead, about)
    if options.size is not None or options.quick:
        text += f"\nA quick look, not a measurement: images of side {options.size or 224}, few repeats.\n"
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / "benchmarks.md").write_text(text)
    if options.write and options.size is None and not options.only:
        PAGE.write_text(text)
    print(text)
    missed = table.failures(outcomes, overhead)
    for line in missed:
        print(f"MISSED {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
