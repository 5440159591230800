"""One forward and one backward pass under a table of rules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.derivative import differentiate, leaf
from captum._engine.place import Layers
from captum._engine.rows import Rows
from captum._engine.ruled_inputs import AtRuled
from captum._engine.rules import RuleMode
from captum._engine.values import describe
from captum.errors import CaptumError, InputTypeError, UnknownOperatorError

Tensors = tuple[Tensor, ...]


@dataclass(slots=True)
class Pass:
    """What one pass gives.

    Attributes:
        scores: the score of each row, ``(n,)``.
        twin_scores: the score of each row for the baselines, ``(n,)``; ``scores`` where nothing is paired.
        values: the tensors that were differentiated by.
        twins: their values for the baselines; empty where nothing is paired.
        grads: what the backward pass brings to them.
        covers: tells whether every path from the inputs to the scores leads through ``values``.
    """

    scores: Tensor
    twin_scores: Tensor
    values: Tensors
    twins: Tensors
    grads: Tensors
    covers: bool


def run_ruled(
    function: AtRuled,
    mode: RuleMode,
    ends: tuple[Tensors, Tensors | None],
    rows: Rows,
    *,
    layers: Layers | None = None,
    seeds: Callable[[Tensor], Tensor] | None = None,
    create_graph: bool = False,
) -> Pass:
    """Run the score under the rules of ``mode``, and the backward pass.

    Args:
        function: the score as a function of the inputs.
        mode: a fresh mode; closed here.
        ends: the variables, ``(n, *)`` each; and the baselines of all inputs, ``(n, *)`` each, for a paired mode.
        rows: which examples they are.
        layers: differentiate by the values of these layers instead of the inputs.
        seeds: the gradient to start from, given the scores; ones by default.
        create_graph: whether the result can be differentiated again.
    """
    points, twins = ends
    with contextlib.closing(mode), torch.enable_grad():
        variables = tuple(leaf(p, create_graph) for p in points)
        scores, values = run_forward(function, mode, (variables, twins), rows, layers)
        weights = None if seeds is None else seeds(scores.detach())
        names = function.names if layers is None and seeds is None else ()  # a rule may give an input nothing
        grads = differentiate(scores, values, names, create_graph=create_graph, weights=weights)
        paired = twins is not None
        return Pass(
            scores if create_graph else scores.detach(),
            mode.twin(scores) if paired else scores.detach(),
            values if create_graph else tuple(v.detach() for v in values),
            tuple(mode.twin(v) for v in values) if paired else (),
            grads,
            layers is None or not bypassed(scores, values, mode.leaves),
        )


def run_forward(
    function: AtRuled, mode: RuleMode, ends: tuple[Tensors, Tensors | None], rows: Rows, layers: Layers | None
) -> tuple[Tensor, Tensors]:
    """The forward pass under ``mode``: the scores, and the tensors to differentiate by.

    Args:
        function: the score as a function of the inputs.
        mode: a fresh mode.
        ends: the variables, leaves; and the baselines of all inputs for a paired mode.
        rows: which examples they are.
        layers: the layers whose values are wanted instead of the variables.
    """
    variables, twins = ends
    mode.begin(variables, None if twins is None else function.of_variables(twins))
    values: Tensors = variables
    with _integers_explained(function), mode, function.replaced(variables):
        filled = function.fill(variables, rows)
        with function.finding(mode, filled, twins, inside=layers is not None) as leaves:
            if layers is None:
                scores = function.score(filled, rows)
                values = (*variables, *leaves)
            else:
                output, values = layers.tap(function.score_of_model(), filled, rows)
                scores = function.score.read(output, rows)
    if function.pending and not mode.leaves:
        function.vary_as_floats()
        floats = tuple(leaf(rows.pick(v)) for v in function.values)
        return run_forward(function, mode, (floats, twins), rows, layers)
    mode.check_seen(scores)
    return scores, values


class IntegerInputError(InputTypeError, RuntimeError):
    """The model does not take the integers that it was given."""


@contextlib.contextmanager
def _integers_explained(function: AtRuled) -> Generator[None]:
    """Say of an error over dtypes that the inputs are integers which no embedding reads."""
    try:
        yield
    except RuntimeError as error:
        if not function.pending or isinstance(error, CaptumError) or "dtype" not in str(error):
            raise
        kinds = ", ".join(describe(t) for t in function.inputs.tensors if not t.is_floating_point())
        message = (
            f"The model does not take the integers that it was given ({kinds}), and no embedding reads them: {error}. "
            "Pass them in the dtype of the model's weights, as in inputs.float()."
        )
        raise IntegerInputError(message) from error


def bypassed(scores: Tensor, values: Sequence[Tensor], leaves: Sequence[Tensor]) -> bool:
    """Tell whether the graph leads from the scores to a leaf without passing through the values."""
    walls = {v.grad_fn for v in values}
    seen: set[Any] = set()
    stack: list[Any] = [scores.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen or node in walls:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and any(variable is t for t in leaves):
            return True
        stack.extend(n for n, _ in node.next_functions)
    return False


class HiddenOperatorsError(UnknownOperatorError, InputTypeError):
    """The model's operators cannot be seen, so their derivatives cannot be replaced."""


def require_visible(model: Any, method: str) -> None:
    """Refuse a model whose operators a rule cannot see.

    Raises:
        InputTypeError: when ``model`` is no module.
        HiddenOperatorsError: when it is scripted or exported, or runs in other threads.
    """
    if not isinstance(model, nn.Module):
        message = f"{method} needs an nn.Module as model, got {describe(model)}; wrap the function in a module."
        raise InputTypeError(message)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            kind = "a TorchScript module"
        elif isinstance(module, torch.fx.GraphModule) and _calls_overloads(module):
            kind = "an exported program"
        elif isinstance(module, nn.DataParallel):
            kind = "nn.DataParallel, which runs in other threads"
        else:
            continue
        where = f"module {name!r}" if name else "the model"
        message = (
            f"{method} replaces the derivative of operators, and those of {where} ({type(module).__name__}) cannot be "
            f"seen: it is {kind}. Explain the eager model it was made from, or use a gradient method."
        )
        raise HiddenOperatorsError(message)


def _calls_overloads(module: torch.fx.GraphModule) -> bool:
    return any(
        node.op == "call_function"
        and isinstance(node.target, (torch._ops.OpOverload, torch._ops.OpOverloadPacket))  # no public name
        for node in module.graph.nodes
    )
