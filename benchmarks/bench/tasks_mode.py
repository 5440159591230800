"""What it costs that every torch call of a forward pass is seen: microseconds per call, beyond what the call takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench.task import Contender, Prepare, Task, Work, accurate

CALLS = 500
REPEATS = 7
Step = Callable[[Tensor], Tensor]


def _overhead(step: Step, *, on_path: bool) -> Prepare:
    """A task whose result is the least overhead over the repeats, forward and backward pass together."""

    def prepare(_: Any, __: Contender) -> Work:
        from captum._engine.rules import RuleMode
        from captum.attr.backprop.rescale_rules import Rescale

        def ruled() -> float:
            leaf, constant = torch.full((1,), 0.5).requires_grad_(), torch.full((1,), 0.5)
            mode = RuleMode(Rescale().table(), paired=True)
            start = time.perf_counter()
            with contextlib.closing(mode):
                mode.begin((leaf,), (torch.full((1,), -0.5),))
                with mode:
                    out = _chain(step, leaf if on_path else constant)
                if on_path:
                    out.backward()
            return time.perf_counter() - start

        def plain() -> float:
            leaf, twin = torch.full((1,), 0.5).requires_grad_(on_path), torch.full((1,), -0.5)
            start = time.perf_counter()
            out = _chain(step, leaf)
            if on_path:
                _chain(step, twin)
                out.backward()
            return time.perf_counter() - start

        def run() -> object:
            pairs = [(ruled(), plain()) for _ in range(REPEATS)]
            return (min(a for a, _ in pairs) - min(b for _, b in pairs)) / CALLS * 1e6

        return run

    return prepare


def _chain(step: Step, x: Tensor) -> Tensor:
    for _ in range(CALLS):
        x = step(x)
    return x


def _task(name: str, title: str, step: Step, limit: float, *, on_path: bool = True) -> Task:
    return Task(
        name,
        title,
        _overhead(step, on_path=on_path),
        (),
        (accurate(limit),),
        agree=None,
        unit="microseconds per call",
        alone=True,
    )


MODE_TASKS = (
    _task(
        "mode_off_path", "A call that has nothing to do with the inputs, under rules", torch.tanh, 10.0, on_path=False
    ),
    _task("mode_linear", "A linear operator on the path, DeepLIFT", lambda x: x * 0.999, 40.0),
    _task("mode_relu", "ReLU on the path, DeepLIFT", torch.relu, 100.0),
    _task("mode_smooth", "A smooth activation on the path, DeepLIFT", torch.tanh, 300.0),
)
