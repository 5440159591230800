"""Ascent: signed gradient steps on the loss of a call, within bounds and under masks."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum._engine.derivative import differentiate, leaf
from captum._engine.score import Score, read_output
from captum._engine.target import ARGMAX, parse_target
from captum._engine.values import Inputs, describe, is_mapping, parse_inputs, per_input
from captum.errors import BaselineError, CaptumWarning, InputError, InputTypeError, MaskError, OutputError, TargetError

Tensors = tuple[Tensor, ...]
Amount = float | Tensor


@dataclass(frozen=True, slots=True)
class Box:
    """Bounds of the values of perturbed inputs; numbers, or tensors that broadcast to the inputs."""

    lower: Amount
    upper: Amount

    def __post_init__(self) -> None:
        for bound in (self.lower, self.upper):
            if not isinstance(bound, (numbers.Real, Tensor)):
                message = f"Expected lower_bound and upper_bound as numbers or tensors, got {describe(bound)}."
                raise InputTypeError(message)
        if bool((torch.as_tensor(self.lower).cpu() > torch.as_tensor(self.upper).cpu()).any()):
            message = "Expected lower_bound <= upper_bound, got bounds with nothing between them."
            raise InputError(message)

    def __call__(self, tensor: Tensor) -> Tensor:
        """``tensor`` with its values inside."""
        return torch.clamp(torch.clamp(tensor, min=_like(self.lower, tensor)), max=_like(self.upper, tensor))


def _like(bound: Amount, tensor: Tensor) -> Any:
    return bound.to(device=tensor.device, dtype=tensor.dtype) if isinstance(bound, Tensor) else bound


class Ascent:
    """The loss of each example as a function of the inputs, and steps that raise it.

    Args:
        forward: the user's model or function.
        loss_func: the user's loss of an output and a target; None for ``−log`` of the target's output.
        inputs: the user's inputs.
        target: the user's target.
        additional: constants of the model.

    Attributes:
        inputs: the parsed inputs.
        varied: places of the floating-point tensors among them; others stay as they are.
        start: the inputs, detached.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        loss_func: Callable[..., Any] | None,
        inputs: Any,
        target: Any,
        additional: Any,
    ) -> None:
        parsed = parse_inputs(inputs, forward)
        self._loss_func = loss_func
        asks = loss_func is None or (isinstance(target, str) and target == ARGMAX)
        self._score = Score(forward, parsed, target if asks else None, additional)
        resolved = self._score.resolve()
        self._target = resolved if asks else target
        self.inputs: Inputs = self._score.inputs
        self.start: Tensors = tuple(t.detach() for t in self.inputs.tensors)
        self.varied = tuple(i for i, t in enumerate(self.start) if t.dtype.is_floating_point)
        self._checked = False
        if not self.varied:
            message = (
                f"Expected at least one floating-point input to perturb, got {[str(t.dtype) for t in self.start]}: "
                "attack embeddings in the place of token ids, and floats in the place of whole numbers."
            )
            raise InputTypeError(message)

    def gradients(self, tensors: Tensors) -> Tensors:
        """Gradients of the loss by the floating-point tensors among ``tensors``."""
        with torch.enable_grad(), self._score.running():
            leaves = tuple(leaf(t) if i in self.varied else t for i, t in enumerate(tensors))
            output = self._score.output(tuple(t.clone() for t in leaves), self._score.everyone())
            return differentiate(self._losses(output), [leaves[i] for i in self.varied])

    def moved(self, tensors: Tensors, sizes: tuple[Amount, ...], masks: tuple[Amount, ...], least: float) -> Tensors:
        """``tensors`` after a step of ``sizes`` along the sign of each gradient that is larger than ``least``."""
        found = list(tensors)
        for place, gradient in zip(self.varied, self.gradients(tensors), strict=True):
            sign = torch.where(gradient.abs() > least, gradient.sign(), torch.zeros_like(gradient))
            found[place] = tensors[place] + sizes[place] * sign * masks[place]
        return tuple(found)

    def _losses(self, output: Any) -> Tensor:
        rows = self._score.everyone()
        if self._loss_func is None:
            values = self._score.read(output, rows)
            self._check_probabilities(values)
            return -torch.log(values)
        loss: Any = self._loss_func(_scores(output), self._target)
        if isinstance(loss, Tensor) and (loss.numel() == 1 or tuple(loss.shape) in ((rows.count,), (rows.count, 1))):
            return loss
        message = (
            f"Expected loss_func to return one value per row, shape ({rows.count},), or their mean or sum, got "
            f"{describe(loss)}."
        )
        raise OutputError(message)

    def _check_probabilities(self, values: Tensor) -> None:
        if not self._checked and bool((values < 0).any()):
            message = (
                "Without loss_func the loss is −log(output), and outputs of the target are negative: steps go the "
                "wrong way there. Let the model return probabilities, such as softmax, or pass loss_func, such as "
                "torch.nn.CrossEntropyLoss(reduction='none') for logits."
            )
            warnings.warn(message, CaptumWarning, stacklevel=2)
        self._checked = True

    def succeeded(self, tensors: Tensors, targeted: bool) -> Tensor:
        """Whether the model's class at ``tensors`` is the target, or is another one when not targeted, ``(B,)``."""
        with torch.no_grad(), self._score.running():
            output = read_output(self._score.output(tuple(t.clone() for t in tensors), self._score.everyone()))
        classes = parse_target(self._target, self._score.batch)
        if output.dim() != 2 or not isinstance(classes, (int, Tensor)):
            message = (
                "return_success needs an output (B, classes) and a class, or one per row, as target; got an output "
                f"{tuple(output.shape)} and {describe(self._target)}."
            )
            raise TargetError(message)
        wanted = torch.as_tensor(classes, device=output.device) % output.shape[1]
        same = output.argmax(1) == wanted
        return same if targeted else ~same

    def amounts(self, value: Any, name: str, least: float = -math.inf) -> tuple[Amount, ...]:
        """A step or a radius for each input: a number or tensor for all, or a tuple or mapping of these."""
        entries = (value,) * len(self.start)
        if isinstance(value, tuple) or is_mapping(value):
            try:
                entries = per_input(value, self.inputs, name)
            except BaselineError as fault:
                raise InputError(str(fault)) from None
        return tuple(self._amount(e, place, name, least) for place, e in enumerate(entries))

    def _amount(self, value: Any, place: int, name: str, least: float) -> Amount:
        if place not in self.varied:
            return 0.0
        tensor = self.start[place]
        fits = False
        if isinstance(value, Tensor):
            fits = value.dim() in (0, tensor.dim()) and _spreads(value, tensor) and bool((value >= least).all())
            value = value.detach().to(device=tensor.device, dtype=tensor.dtype)
        elif not isinstance(value, bool) and isinstance(value, numbers.Real):
            value = float(value)
            fits = value >= least
        if not fits:
            bound = f" of at least {least:g}" if least > -math.inf else ""
            message = (
                f"Expected {name} as a number{bound}, or a tensor of such numbers with the dims of {describe(tensor)} "
                f"or 1 in their places, got {value if isinstance(value, float) else describe(value)}."
            )
            raise InputError(message)
        return value

    def masks(self, mask: Any) -> tuple[Amount, ...]:
        """A factor for the steps of each input, 1 without a mask."""
        try:
            entries = per_input(mask, self.inputs, "masks")
        except BaselineError as fault:
            raise MaskError(str(fault)) from None
        return tuple(self._mask(e, place) for place, e in enumerate(entries))

    def _mask(self, mask: Any, place: int) -> Amount:
        if mask is None:
            return 1.0
        tensor = self.start[place]
        if not isinstance(mask, Tensor) or not _spreads(mask, tensor):
            message = (
                f"Expected as mask of {self.inputs.names[place]} a tensor of 0 and 1 that broadcasts to its shape "
                f"{tuple(tensor.shape)}, got {describe(mask)}."
            )
            raise MaskError(message)
        return mask.detach().to(device=tensor.device, dtype=tensor.dtype)

    def within(self, tensors: Tensors, box: Callable[[Tensor], Tensor]) -> Tensors:
        """``tensors`` with those that are perturbed brought inside ``box``."""
        return tuple(box(t) if i in self.varied else t for i, t in enumerate(tensors))

    def result(self, tensors: Tensors, targeted: bool, return_success: bool) -> Any:
        """Perturbed inputs in the structure and apart from the memory of the user's; success too if asked for."""
        pairs = zip(tensors, self.start, strict=True)
        found = tuple(t.clone() if t is start else t for t, start in pairs)
        restored = self.inputs.restore(found)
        return (restored, self.succeeded(found, targeted)) if return_success else restored


def _scores(output: Any) -> Any:
    """The tensor of scores that a loss reads; the model's own output where there is not one such tensor."""
    try:
        return read_output(output)
    except OutputError:
        return output


def _spreads(small: Tensor, large: Tensor) -> bool:
    """Whether one tensor broadcasts to the shape of the other."""
    try:
        return torch.broadcast_shapes(small.shape, large.shape) == large.shape
    except RuntimeError:
        return False
