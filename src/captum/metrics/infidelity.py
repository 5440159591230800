"""Infidelity: how far attributions are from what perturbations do to the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.layout import Layout
from captum._engine.rows import Rows
from captum._engine.score import Score
from captum._engine.sweep import Plan, Sweep, parameter_count, sharing_rows
from captum._engine.values import Inputs, describe, parse_baselines, parse_inputs, per_input
from captum.errors import BaselineError, InputError, InputTypeError
from captum.log import log_usage
from captum.metrics.samples import Tensors, group_sizes, in_form, parts_of, repeated

__all__ = ["infidelity", "infidelity_perturb_func_decorator"]

Perturb = Callable[..., Any]


def infidelity_perturb_func_decorator(multiply_by_inputs: bool = True) -> Callable[[Perturb], Perturb]:
    r"""Make a perturbation function for :func:`infidelity` of one that returns the perturbed inputs only.

    The perturbation is :math:`x - \tilde x`; for attributions that were multiplied by ``x − x'`` it is the share
    :math:`(x - \tilde x) / (x - x')`, and :math:`x - \tilde x` where that divides by zero.

    Args:
        multiply_by_inputs: whether the attributions are in score units, as those of IntegratedGradients (default);
            False for gradients, as those of Saliency.

    Returns:
        A decorator. What it makes takes ``(inputs)`` or ``(inputs, baselines)`` and returns two tuples: perturbations
        and perturbed inputs.

    Raises:
        InputTypeError: when it is used without parentheses.

    Example:
        >>> import torch
        >>> @infidelity_perturb_func_decorator()
        ... def halve(x):
        ...     return x / 2
        >>> halve(torch.tensor([[2.0, 4.0]]))
        ((tensor([[0.5000, 0.5000]]),), (tensor([[1., 2.]]),))
    """
    if callable(multiply_by_inputs):
        message = "Write @infidelity_perturb_func_decorator() with parentheses: it takes multiply_by_inputs."
        raise InputTypeError(message)

    def decorate(perturb_func: Perturb) -> Perturb:
        def perturb(inputs: Any, baselines: Any = None) -> tuple[Tensors, Tensors]:
            given = (inputs,) if baselines is None else (inputs, baselines)
            parsed = parse_inputs(inputs)
            perturbed = parts_of(perturb_func(*given), parsed.names)
            _check_count(perturbed, parsed.tensors, "perturbed inputs")
            change = tuple(x - p for x, p in zip(parsed.tensors, perturbed, strict=True))
            if multiply_by_inputs:
                starts = parse_baselines(baselines, parsed)
                change = tuple(_share(c, x - s) for c, x, s in zip(change, parsed.tensors, starts, strict=True))
            return change, perturbed

        return perturb

    return decorate


def _share(change: Tensor, whole: Tensor) -> Tensor:
    return change / torch.where(whole == 0, torch.ones_like(whole), whole)


@log_usage()
def infidelity(
    forward_func: Callable[..., Any],
    perturb_func: Perturb,
    inputs: Any,
    attributions: Any,
    baselines: Any = None,
    additional_forward_args: Any = None,
    target: Any = None,
    n_perturb_samples: int = 10,
    max_examples_per_batch: int | None = None,
    normalize: bool = False,
    *,
    return_std_error: bool = False,
) -> Any:
    r"""Expected squared difference between what attributions say a perturbation does, and what it does.

    :math:`\mathrm{INFD} = \mathbb{E}_I [(I^\top a - (F(x) - F(x - I)))^2]`, with :math:`\beta a` in the place of ``a``
    when normalised, :math:`\beta = \mathbb{E}[I^\top a\,(F(x) - F(x - I))] / \mathbb{E}[(I^\top a)^2]`.

    C. Yeh, C. Hsieh, A. Suggala, D. Inouye, P. Ravikumar, "On the (in)fidelity and sensitivity of explanations", 2019,
    arXiv:1901.09392.

    Args:
        forward_func: the model or function.
        perturb_func: ``(inputs) -> (perturbation, perturbed inputs)``, or with ``(inputs, baselines)`` when baselines
            are given. Inputs come with each example several times in a row, ``(n, *)``, bare when there is one tensor.
            By convention ``perturbed = inputs − perturbation`` for gradients; for attributions in score units the
            perturbation is a share, see :func:`infidelity_perturb_func_decorator`.
        inputs: tensor ``(B, *)``, tuple, dict or dataclass.
        attributions: in the structure and the shapes of ``inputs``.
        baselines: handed to ``perturb_func`` with each row repeated like its example; numbers as they are.
        additional_forward_args: constants of the model.
        target: which output is explained; see ``docs/conventions.md``.
        n_perturb_samples: number of perturbations of each example (default 10).
        max_examples_per_batch: most perturbed examples at once; None (default) perturbs all together, in groups only
            where they would not fit, and plans the forward passes.
        normalize: whether attributions are scaled to fit best, so that only their ratios count.
        return_std_error: whether to return the standard error of the mean over perturbations too, infinite for one.

    Returns:
        Infidelities ``(B,)`` in squared score units; with their standard errors ``(B,)`` if asked for.

    Raises:
        InputError: when numbers or shapes of inputs, attributions and perturbations do not agree.
        OutputError: when the model gives several numbers per row and no target chooses one.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> noise = lambda x: (torch.ones_like(x), x - 1)
        >>> infidelity(lambda x: 3 * x[:, 0] + x[:, 1], noise, x, torch.tensor([[3.0, 1.0]]))
        tensor([0.])
    """
    parsed = parse_inputs(inputs, forward_func)
    score = Score(forward_func, parsed, target, additional_forward_args)
    score.resolve()
    maps = _attributions(attributions, parsed)
    predict = _Predict(score)
    said: list[Tensor] = []
    done: list[Tensor] = []
    with torch.no_grad(), score.running():
        whole = predict(tuple(t.detach() for t in parsed.tensors), score.everyone())
        for count in group_sizes(parsed, n_perturb_samples, max_examples_per_batch):
            rows = repeated(parsed.batch, count)
            change, perturbed = _perturbed(perturb_func, parsed, rows, baselines)
            effects = sum(_dot(rows.pick(a), c) for a, c in zip(maps, change, strict=True))
            said.append(torch.as_tensor(effects).reshape(-1, count))
            done.append((whole.repeat_interleave(count) - predict(perturbed, rows)).reshape(-1, count))
    value, error = _moments(torch.cat(said, 1), torch.cat(done, 1), normalize)
    dtype = torch.promote_types(predict.dtype, maps[0].dtype)
    value, error = (t.to(device=maps[0].device, dtype=dtype) for t in (value, error))
    return (value, error) if return_std_error else value


class _Predict:
    """Scores of any number of rows in double precision, in chunks that fit."""

    def __init__(self, score: Score) -> None:
        self._score = score
        self._layout = Layout(score.modules())
        self._elements = sum(t.numel() for t in score.inputs.tensors) // max(1, score.batch)
        self._work = parameter_count(score.modules())
        self.dtype = torch.get_default_dtype()

    def __call__(self, tensors: Tensors, rows: Rows) -> Tensor:
        """Scores ``(n,)`` on the CPU."""
        parts: list[Tensor] = []
        for chunk, values in Sweep(rows.count, 1, self._plan()).run(
            lambda c: self._run(tensors, rows, (c.start, c.stop))
        ):
            del chunk
            self.dtype = values.dtype if values.dtype.is_floating_point else self.dtype
            parts.append(values.to("cpu", torch.float64))
        return torch.cat(parts)

    def _plan(self) -> Plan:
        return Plan(None, self._elements, self._work, least=sharing_rows(self._score.inputs.tensors))

    def _run(self, tensors: Tensors, rows: Rows, span: tuple[int, int]) -> Tensor:
        start, stop = span
        index = torch.arange(rows.count, device="cpu") if rows.index is None else rows.index
        whole = rows.index is None and stop - start == rows.count
        part = Rows(rows.batch, None if whole else index[start:stop])
        own = tuple(t[start:stop].clone() if len(t) == rows.count else t.clone() for t in tensors)
        return self._layout.run(own, lambda t: self._score(t, part))


def _dot(attribution: Tensor, change: Tensor) -> Tensor:
    """The sum of products over all dims but the first, in double precision on the CPU."""
    return (attribution.double() * change.double()).flatten(1).sum(1).cpu()


def _moments(said: Tensor, done: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Mean squared difference ``(B,)`` over samples ``(B, n)``, and its standard error.

    The scale that fits best moves neither by its own error, as the mean is flat there.
    """
    if normalize:
        squares = said.square().sum(1, keepdim=True)
        scale = (said * done).sum(1, keepdim=True) / torch.where(squares == 0, torch.ones_like(squares), squares)
        said = scale * said
    squared = (said - done).square()
    count = squared.shape[1]
    error = squared.std(1) / count**0.5 if count > 1 else torch.full((len(squared),), torch.inf, dtype=squared.dtype)
    return squared.mean(1), error


def _attributions(attributions: Any, inputs: Inputs) -> Tensors:
    try:
        maps = per_input(attributions, inputs, "attributions")
    except BaselineError as fault:
        raise InputError(str(fault)) from None
    for one, tensor, name in zip(maps, inputs.tensors, inputs.names, strict=True):
        if not isinstance(one, Tensor) or one.shape != tensor.shape:
            message = (
                f"Expected attributions of {name} in its shape {tuple(tensor.shape)}, got {describe(one)}: sum over "
                "dims that the input does not have, such as that of an embedding."
            )
            raise InputError(message)
    return tuple(m.detach() for m in maps)


def _perturbed(perturb_func: Perturb, inputs: Inputs, rows: Rows, baselines: Any) -> tuple[Tensors, Tensors]:
    """What the user's function makes of the examples of ``rows``."""
    examples = tuple(rows.pick(t.detach()) for t in inputs.tensors)
    given = [in_form(inputs, examples)]
    if baselines is not None:
        entries = tuple(rows.pick_constant(e) for e in per_input(baselines, inputs, "baselines"))
        given.append(entries[0] if len(entries) == 1 else _baselines_like(inputs, entries))
    pair: Any = perturb_func(*given)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        message = (
            f"Expected perturb_func to return (perturbation, perturbed inputs), got {describe(pair)}. For a function "
            "that returns the perturbed inputs alone use @infidelity_perturb_func_decorator()."
        )
        raise InputError(message)
    change, perturbed = (parts_of(part, inputs.names) for part in pair)
    _check_count(perturbed, examples, "perturbed inputs")
    _check_count(change, perturbed, "perturbations")
    for new, old, step in zip(perturbed, examples, change, strict=True):
        if len(new) != rows.count or step.shape != new.shape or old.shape != step.shape:
            message = (
                f"Expected perturbations and perturbed inputs in the shape {tuple(old.shape)} that perturb_func was "
                f"given, got {tuple(step.shape)} and {tuple(new.shape)}."
            )
            raise InputError(message)
    return tuple(c.detach() for c in change), tuple(p.detach() for p in perturbed)


def _baselines_like(inputs: Inputs, entries: tuple[Any, ...]) -> Any:
    """Baselines in the structure of the inputs; with numbers among them, by name or in a tuple."""
    if inputs.rebuild is None:
        return entries
    if all(isinstance(e, Tensor) for e in entries):
        return inputs.restore(entries)
    return dict(zip(inputs.names, entries, strict=True))


def _check_count(given: Tensors, wanted: Tensors, what: str) -> None:
    if len(given) != len(wanted):
        message = f"Expected {what} for {len(wanted)} input tensor(s), got {len(given)}."
        raise InputError(message)
