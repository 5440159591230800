"""What is asked of a model: its scores for these inputs, and which of them is to be explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum._engine.integers import as_floats, takes
from captum._engine.score import Score, read_output
from captum._engine.target import argmax_of, one_per_row, parse_target
from captum._engine.values import Inputs, parse_inputs
from captum.attr.results.leaves import is_sequence
from captum.errors import OutputError

__all__ = ["AUTO", "Question", "ask"]

AUTO = "auto"


@dataclass(frozen=True)
class Question:
    """A model, its inputs and a target, evaluated once.

    Args:
        inputs: The parsed inputs; as floats where the model takes whole numbers only as such.
        target: The target to give to a method: ``"argmax"`` and ``"auto"`` are resolved to the classes of the rows.
        targets: The target of each row as plain values, for display.
        scores: The score of each row, ``(N,)``.
        outputs: All scores ``(N, C)``, where the output is a table.
    """

    inputs: Inputs
    target: object
    targets: tuple[int | str | tuple[int, ...], ...]
    scores: Tensor
    outputs: Tensor | None


def ask(model: Callable[..., object], inputs: object, target: object, additional_forward_args: object) -> Question:
    """Evaluate the model once and resolve the target.

    Args:
        model: The model or a forward function.
        inputs: The inputs as the user gave them.
        target: A target, or ``"auto"``: the class of the highest score, or nothing to choose for one column.
        additional_forward_args: Constants of the model.

    Raises:
        TargetError: The target does not fit the output.
        OutputError: The output is not a table of scores and no target was given to read it.
    """
    parsed = parse_inputs(inputs, model)
    score = Score(model, parsed, None, additional_forward_args)
    rows = score.everyone()
    parsed, output = _evaluated(score, parsed)
    table = _table(output, rows.count)
    if isinstance(target, str) and target == AUTO:
        target = _automatic(output, rows.count)
    if isinstance(target, str) and target == "argmax":
        target = argmax_of(read_output(output))
    score.target = parse_target(target, rows.count)
    with torch.no_grad():
        values = score.select(output, rows)
        values = one_per_row(values, values if callable(score.target) else read_output(output), score.target, rows)
    # A list of per-row tuples and a tensor are both accepted by every method; a parsed int is what the user meant.
    return Question(parsed, score.target, _listed(score.target, rows.count), values.detach(), table)


def _evaluated(score: Score, inputs: Inputs) -> tuple[Inputs, object]:
    """The output, and the inputs as the model takes them: whole numbers as floats, where it has no use for others."""
    rows = score.everyone()
    try:
        with torch.no_grad(), score.running():
            return inputs, score.output(inputs.tensors, rows)
    except RuntimeError:
        floats = as_floats(inputs.tensors)
        same = all(f is t for f, t in zip(floats, inputs.tensors, strict=True))
        if same or inputs.form not in ("tensor", "tuple") or not takes(score, floats):
            raise
    with torch.no_grad(), score.running():
        return replace(inputs, tensors=floats), score.output(floats, rows)


def _automatic(output: object, rows: int) -> object:
    read = read_output(output)
    return None if read.numel() == rows or read.dim() != 2 else argmax_of(read)


def _table(output: object, rows: int) -> Tensor | None:
    try:
        read = read_output(output).detach()
    except OutputError:
        return None
    return read if read.dim() == 2 and len(read) == rows and read.shape[1] > 1 else None


def _listed(target: object, rows: int) -> tuple[int | str | tuple[int, ...], ...]:
    if target is None:
        return ("the output",) * rows
    if isinstance(target, int):
        return (target,) * rows
    if isinstance(target, Tensor):
        return tuple(int(index) for index in target.reshape(-1))
    if is_sequence(target):
        return tuple(_indices(part) for part in target) if isinstance(target, list) else (_indices(target),) * rows
    name: object = getattr(target, "__name__", type(target).__name__)
    return ("a function of the output" if name == "<lambda>" else str(name),) * rows


def _indices(target: object) -> tuple[int, ...] | str:
    parts: list[object] = list(target) if is_sequence(target) else [target]
    numbers = [part for part in parts if isinstance(part, int)]
    return tuple(numbers) if len(numbers) == len(parts) else str(target)
