"""Gradients of the loss of each example by the parameters, for every kind of module.

``torch.func`` gives the gradients of many examples at once; where a model cannot be vectorised each example takes a
forward and a backward pass of its own. Both count every use of a parameter: modules that are called several times, and
weights that several modules share.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from captum._engine.values import describe
from captum.errors import InputError, InputTypeError
from captum.influence.batches import Batch
from captum.influence.losses import REFUSALS, ExampleLoss

__all__ = ["BUDGET", "ExampleGradients", "choose_parameters", "expect_model", "refuse_batch_statistics"]

#: Bytes that gradients of examples may take at a time, beside those of test examples.
BUDGET = 2**28


def expect_model(model: object) -> None:
    """Refuse what has no parameters to be looked up by name.

    Raises:
        InputTypeError: when ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        message = f"Expected model to be a torch.nn.Module, whose parameters are differentiated, got {describe(model)}."
        raise InputTypeError(message)


def choose_parameters(model: nn.Module, layers: Any = None) -> list[str]:
    """Names of the parameters to differentiate by; of shared ones the first.

    Args:
        model: the model.
        layers: names of modules, all of whose parameters count, also frozen ones; None for all parameters of the model
            that are not frozen.

    Returns:
        At least one name, in the order of the model.

    Raises:
        InputError: when ``layers`` is no list of names of modules, or no parameter is left.
    """
    named = {name: p for name, p in model.named_parameters() if p.dtype.is_floating_point}
    if layers is None:
        found = [name for name, p in named.items() if p.requires_grad]
    else:
        if not isinstance(layers, (list, tuple)) or not layers or not all(isinstance(n, str) for n in layers):
            message = f"Expected layers to be a list of at least one name of a module, got {describe(layers)}."
            raise InputError(message)
        chosen = {id(p) for name in layers for p in _module(model, name).parameters()}
        found = [name for name, p in named.items() if id(p) in chosen]
    if not found:
        message = "Expected parameters to differentiate by, got none: all are frozen, or the layers have none."
        raise InputError(message)
    return found


def _module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        message = f"Expected layers to name modules of the model, got {name!r}: see model.named_modules()."
        raise InputError(message) from None


def has_statistics(module: nn.Module) -> bool:
    """Whether a normalisation has statistics of its own, for evaluation mode."""
    return isinstance(getattr(module, "running_mean", None), Tensor)


def refuse_batch_statistics(model: nn.Module) -> None:
    """Refuse models whose examples influence each other: then no example has a gradient of its own.

    Raises:
        InputError: when a batch normalisation uses the statistics of the batch.
    """
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm) and (module.training or not has_statistics(module)):
            message = (
                f"Expected gradients of single examples, got {type(module).__name__} at {name!r}, which normalises by "
                "the batch: call model.eval(), in checkpoints_load_func if that is where modes are set."
            )
            raise InputError(message)


class ExampleGradients:
    """Gradients of single examples by chosen parameters.

    Args:
        model: the model, whose present parameters are used.
        names: which parameters.
        budget: bytes that the gradients of a piece may take; one example is always computed.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], budget: int = BUDGET) -> None:
        self._model = model
        self._names = tuple(names)
        self._vectorised = True
        self._checked = False
        self._limit = max(1, budget // (2 * max(1, self.row_bytes())))

    def row_bytes(self) -> int:
        """Bytes of the gradients of one example."""
        named = dict(self._model.named_parameters())
        return sum(named[n].numel() * named[n].element_size() for n in self._names)

    def pieces(self, batch: Batch, loss: ExampleLoss) -> Iterator[Tensor]:
        """Gradients ``(b, P)`` of the examples of a batch, in order, as many at a time as the budget allows."""
        start = 0
        while start < batch.size:
            part = batch.rows(start, min(start + self._limit, batch.size))
            found = self._of(part, loss)
            if found is None:  # no memory for so many
                self._limit = part.size // 2
                continue
            yield found
            start += part.size

    def _of(self, batch: Batch, loss: ExampleLoss) -> Tensor | None:
        if self._vectorised and batch.size > 1:
            try:
                found = self._at_once(batch, loss)
            except torch.cuda.OutOfMemoryError:
                return None
            except REFUSALS:
                found = self._one_by_one(batch, loss)  # mistakes of the user are met again
                self._vectorised = False
                return found
            else:
                self._vectorised = self._checked or self._agrees(found[0], batch, loss)
                self._checked = True
                if self._vectorised:
                    return found
        return self._one_by_one(batch, loss)

    def _one_by_one(self, batch: Batch, loss: ExampleLoss) -> Tensor:
        return torch.cat([self._of_row(batch.rows(i, i + 1), loss) for i in range(batch.size)])

    def _agrees(self, found: Tensor, batch: Batch, loss: ExampleLoss) -> bool:
        """Whether the first example, alone and without torch.func, has the gradients that were found for it."""
        alone = self._of_row(batch.rows(0, 1), loss)[0]
        near = torch.finfo(self._dtype()).eps ** 0.5 * float(alone.abs().max())
        return bool(((found - alone).abs() <= near).all())

    def _dtype(self) -> torch.dtype:
        named = dict(self._model.named_parameters())
        return max((named[n].dtype for n in self._names), key=lambda d: torch.finfo(d).eps)

    def _at_once(self, batch: Batch, loss: ExampleLoss) -> Tensor:
        every = {name: p.detach() for name, p in self._model.named_parameters()}
        chosen = {name: every.pop(name) for name in self._names}

        def loss_of_one(parameters: dict[str, Tensor], *rows: Tensor) -> Tensor:
            left = iter(rows)
            one = batch.mapped(lambda _: next(left)[None], 1)
            output = functional_call(self._model, {**every, **parameters}, one.features)
            return loss.of_one(output, one.labels)

        rows = batch.by_row()
        each = vmap(grad(loss_of_one), in_dims=(None, *[0] * len(rows)), randomness="different")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")  # of operators that vmap runs row by row
            gradients = each(chosen, *rows)
        return _flat([gradients[name] for name in self._names], batch.size)

    def _of_row(self, row: Batch, loss: ExampleLoss) -> Tensor:
        named = dict(self._model.named_parameters())
        parameters = [named[name] for name in self._names]
        for parameter in parameters:
            parameter.requires_grad_(True)  # put back when the call ends
        value = loss.of_one(self._model(*row.features), row.labels)
        if not value.requires_grad:
            return _flat([torch.zeros_like(p) for p in parameters], 1)
        found = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        return _flat(list(found), 1)


def _flat(gradients: list[Tensor], size: int) -> Tensor:
    """Gradients ``(b, *)`` of several parameters beside each other, in at least single precision."""
    device = gradients[0].device
    flat = torch.cat([g.detach().reshape(size, -1).to(device) for g in gradients], 1)
    return flat.to(torch.promote_types(flat.dtype, torch.float32))
