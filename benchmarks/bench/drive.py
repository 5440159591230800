"""The parent's side: worker processes, alternating repeats, medians, comparison of outputs."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.bench.task import BARE, DEFAULT, OURS, UPSTREAM, Bound, Contender, Task
from benchmarks.interpreters import ROOT, Interpreter
from benchmarks.parity.compare import distance

LONG = 30.0  # seconds: a contender whose first run is slower than this is not repeated
FINALISTS = 2
# accepted difference of two outputs in double precision, as a share of their scale: the published package keeps nodes
# and weights of a quadrature in single precision, which alone leaves 2e-9
EXACT = 1e-8


class Worker:
    """One long-lived process that answers requests; a context manager."""

    def __init__(self, interpreter: Interpreter, threads: int | None) -> None:
        self.process = subprocess.Popen(
            interpreter.command("benchmarks.bench.worker"),
            cwd=ROOT,
            env=interpreter.environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self._read()

    def ask(self, op: str, task: Task, contender: Contender, **more: Any) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        request = {"op": op, "task": task.name, "side": contender.side, "variant": contender.variant, **more}
        if self.process.stdin is None:
            message = "the worker's input is closed"
            raise RuntimeError(message)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            message = f"a worker stopped with code {self.process.wait()}"
            raise RuntimeError(message)
        return json.loads(line)

    def __enter__(self) -> Self:
        """The worker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its input, which ends it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=60)


@dataclass
class Outcome:
    """What was measured for one task."""

    task: Task
    seconds: dict[Contender, list[float]] = field(default_factory=dict)
    bytes: dict[Contender, int] = field(default_factory=dict)
    values: dict[Contender, float] = field(default_factory=dict)
    errors: dict[Contender, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    gap: float | None = None
    exact_gap: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether the outputs are the same up to what is accepted, or up to the rounding of single precision."""
        accepted = self.task.agree
        if self.gap is None or accepted is None or self.gap <= accepted:
            return True
        return self.exact_gap is not None and self.exact_gap <= EXACT

    def resolve(self, name: str, quantity: str = "time") -> Contender | None:
        """The contender that a bound names, or None when it did not run."""
        side, _, variant = name.partition(":")
        pool = {"time": self.seconds, "memory": self.bytes, "error": self.values}[quantity]
        if variant == "best":
            mine = {who: median(times) for who, times in self.seconds.items() if who.side == side}
            return min(mine, key=lambda who: mine[who]) if mine else None
        who = Contender(side, variant or DEFAULT)
        return who if who in pool else None

    def ratio(self, bound: Bound) -> float | None:
        """The measured ratio of a bound, or None when somebody did not run."""
        top, bottom = self.resolve(bound.numerator, bound.quantity), self.resolve(bound.denominator, bound.quantity)
        if top is None or bottom is None:
            return None
        if bound.quantity == "error":
            return self.values[top]
        if bound.quantity == "memory":
            return self.bytes[top] / self.bytes[bottom]
        return median(self.seconds[top]) / median(self.seconds[bottom])

    def spread(self, bound: Bound) -> tuple[float, float] | None:
        """The smallest and largest ratio of neighbouring repeats."""
        top, bottom = self.resolve(bound.numerator), self.resolve(bound.denominator)
        if bound.quantity != "time" or top is None or bottom is None:
            return None
        pairs = [a / b for a, b in zip(self.seconds[top], self.seconds[bottom], strict=False)]
        return (min(pairs), max(pairs)) if pairs else None


class Run:
    """All measurements of one session with two workers."""

    def __init__(
        self, workers: dict[str, Worker], pair: dict[str, Interpreter], quick: bool, threads: int | None
    ) -> None:
        self.workers = workers
        self.pair = pair
        self.quick = quick
        self.threads = threads

    def measure(self, task: Task) -> Outcome:
        """Times, memory and agreement of one task."""
        outcome = Outcome(task)
        ready = self._prepare(task, outcome)
        if outcome.missing or not any(who.side == OURS for who in ready):
            self._drop(task, ready)
            return outcome
        finalists = self._finalists(task, outcome, ready)
        self._alternate(task, outcome, finalists)
        self._agree(task, outcome)
        self._values(task, outcome)
        self._drop(task, ready)
        if any(bound.quantity == "memory" for bound in task.bounds):
            self._memory(task, outcome)
        return outcome

    def _ask(self, op: str, task: Task, who: Contender, **more: Any) -> dict[str, Any]:
        return self.workers[who.process].ask(op, task, who, **more)

    def _prepare(self, task: Task, outcome: Outcome) -> list[Contender]:
        ready: list[Contender] = []
        for who in task.contenders():
            answer = self._ask("prepare", task, who)
            if "missing" in answer:
                outcome.missing = answer["missing"]
                break
            if "error" in answer:
                outcome.errors[who] = answer["error"]
            else:
                ready.append(who)
        return ready

    def _finalists(self, task: Task, outcome: Outcome, ready: list[Contender]) -> list[Contender]:
        """Run everybody once to warm up; of a side with many variants keep the default and the fastest."""
        first: dict[Contender, float] = {}
        for who in ready:
            answer = self._ask("time", task, who, calls=1)
            if "error" in answer:
                outcome.errors[who] = answer["error"]
                continue
            if who.side == BARE and len(ready) > FINALISTS:
                answer = self._ask("time", task, who, calls=1)
            first[who] = answer["seconds"]
        kept: list[Contender] = []
        for side in dict.fromkeys(who.side for who in first):
            ranked = sorted((who for who in first if who.side == side), key=lambda who: first[who])
            plain = [who for who in ranked if who.variant == DEFAULT]
            searched = side in (BARE, UPSTREAM)
            chosen = ranked[:FINALISTS] if searched else ranked
            kept += [*chosen, *(who for who in plain if who not in chosen)]
        for who in [who for who in kept if first[who] > LONG]:
            outcome.seconds[who] = [first[who] / task.part(who)]
        return kept

    def _alternate(self, task: Task, outcome: Outcome, finalists: list[Contender]) -> None:
        """Repeats in turn, forwards and backwards, so that drift of the machine falls on everybody alike."""
        for repeat in range(min(task.repeats, 2) if self.quick else task.repeats):
            for who in finalists if repeat % 2 == 0 else finalists[::-1]:
                done = outcome.seconds.setdefault(who, [])
                if done and done[0] * task.part(who) > LONG:
                    continue
                answer = self._ask("time", task, who, calls=task.calls)
                done.append(answer["seconds"] / task.part(who))

    def _agree(self, task: Task, outcome: Outcome) -> None:
        """The largest difference of the two outputs as a share of the published one's scale.

        Where it is more than is accepted, both do the work in double precision too, which tells rounding from another
        result: a ReLU or a pool whose inputs are within rounding of its kink has another gradient on the other side.
        """
        outcome.gap = self._gap("save", task)
        if not outcome.agrees:
            outcome.exact_gap = self._gap("exact", task)

    def _gap(self, op: str, task: Task) -> float | None:
        with tempfile.TemporaryDirectory() as folder:
            found: list[list[np.ndarray]] = []
            for side in (UPSTREAM, OURS):
                path = Path(folder) / f"{side}.npz"
                if "error" in self._ask(op, task, Contender(side), path=str(path)):
                    return None
                with np.load(path) as numbers:
                    found.append([numbers[name] for name in numbers.files])
        left, right = found
        return distance(left, right)[1] if [a.shape for a in left] == [a.shape for a in right] else None

    def _values(self, task: Task, outcome: Outcome) -> None:
        """The numbers that the work of both sides returned, where they are what is bounded."""
        if any(bound.quantity == "error" for bound in task.bounds):
            for who in (Contender(UPSTREAM), Contender(OURS)):
                answer = self._ask("value", task, who)
                if "value" in answer:
                    outcome.values[who] = answer["value"]

    def _memory(self, task: Task, outcome: Outcome) -> None:
        """The peak of each side's default in a fresh process."""
        for side in (UPSTREAM, OURS):
            who = Contender(side)
            with Worker(self.pair[who.process], self.threads) as fresh:
                fresh.ask("prepare", task, who)
                answer = fresh.ask("memory", task, who)
            if "bytes" in answer:
                outcome.bytes[who] = answer["bytes"]

    def _drop(self, task: Task, ready: list[Contender]) -> None:
        for who in ready:
            self._ask("drop", task, who)
