"""A long-lived process that prepares and times work in one interpreter.

It reads one JSON object per line from standard input and answers each with one line on standard output:

- ``{"op": "prepare", "task": …, "side": …, "variant": …}`` builds models and inputs;
- ``{"op": "time", …, "calls": n}`` runs the work n times and answers the seconds per call;
- ``{"op": "save", …, "path": …}`` writes the numbers of the result of the last timed run;
- ``{"op": "exact", …, "path": …}`` does the same work once in double precision and writes the numbers of its result;
- ``{"op": "value", …}`` answers that result as a number;
- ``{"op": "memory", …}`` answers the bytes by which one run raised this process's peak;
- ``{"op": "drop", …}`` forgets it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import warnings
from typing import Any, TextIO

import numpy as np
import torch

from benchmarks.bench import nets
from benchmarks.bench.memory import peak_of
from benchmarks.bench.task import BARE, OURS, PEER, UPSTREAM, Contender, Work
from benchmarks.bench.tasks import TASKS
from benchmarks.parity.case import flatten


class Bench:
    """The prepared work of one interpreter, by task and contender."""

    def __init__(self, attr: Any) -> None:
        self.attr = attr
        self.work: dict[tuple[str, Contender], Work] = {}
        self.last: dict[tuple[str, Contender], object] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; an exception becomes ``{"error": …}``."""
        key = (str(request["task"]), Contender(request["side"], request["variant"]))
        names = ("prepare", "time", "save", "exact", "value", "memory", "drop")
        handle = {name: getattr(self, name) for name in names}
        try:
            return handle[request["op"]](key, request)
        except Exception as error:  # noqa: BLE001 (a contender that fails is a line of the report)
            return {"error": f"{type(error).__name__}: {error}"[:300]}

    def prepare(self, key: tuple[str, Contender], _: dict[str, Any]) -> dict[str, Any]:
        """Build the work unless a name that it needs is missing."""
        task = TASKS[key[0]]
        missing = [] if key[1].side in (BARE, PEER) else [name for name in task.needs if not self.has(name)]
        if missing:
            return {"missing": missing}
        self.work[key] = task.work(self.attr, key[1])
        return {"ready": True}

    def has(self, name: str) -> bool:
        """Whether ``captum.attr`` exports a name."""
        try:
            getattr(self.attr, name)
        except (ImportError, AttributeError):
            return False
        return True

    def time(self, key: tuple[str, Contender], request: dict[str, Any]) -> dict[str, Any]:
        """Seconds per call."""
        work, calls = self.work[key], int(request["calls"])
        self.last.pop(key, None)
        gc.collect()
        result: object = None
        start = time.perf_counter()
        for _ in range(calls):
            result = work()
        seconds = (time.perf_counter() - start) / calls
        if key[1] in (Contender(UPSTREAM), Contender(OURS)):
            self.last[key] = result
        return {"seconds": seconds}

    def save(self, key: tuple[str, Contender], request: dict[str, Any]) -> dict[str, Any]:
        """Write the numbers of the last result."""
        _, arrays, _ = flatten(self.last[key])
        np.savez(request["path"], *arrays)
        return {"arrays": len(arrays)}

    def exact(self, key: tuple[str, Contender], request: dict[str, Any]) -> dict[str, Any]:
        """Write the numbers of the same work in double precision."""
        with nets.double():
            _, arrays, _ = flatten(TASKS[key[0]].work(self.attr, key[1])())
        gc.collect()
        np.savez(request["path"], *arrays)
        return {"arrays": len(arrays)}

    def value(self, key: tuple[str, Contender], _: dict[str, Any]) -> dict[str, Any]:
        """The last result, which is one number."""
        return {"value": float(str(self.last[key]))}

    def memory(self, key: tuple[str, Contender], _: dict[str, Any]) -> dict[str, Any]:
        """Bytes that one run needed at its peak beyond what the prepared process held."""
        return {"bytes": peak_of(self.work[key])}

    def drop(self, key: tuple[str, Contender], _: dict[str, Any]) -> dict[str, Any]:
        """Forget the work."""
        self.work.pop(key, None)
        self.last.pop(key, None)
        gc.collect()
        return {"dropped": True}


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until the input ends."""
    bench = Bench(importlib.import_module("captum.attr"))
    answers.write(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}) + "\n")
    answers.flush()
    for line in requests:
        answers.write(json.dumps(bench.answer(json.loads(line))) + "\n")
        answers.flush()


def main() -> int:
    """Keep standard output for answers alone: whatever else is printed goes to standard error."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
