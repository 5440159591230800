"""Checkpoints of a training run: finding them, loading them, and leaving the model as it was."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.values import describe
from captum.errors import InputError, InputTypeError

__all__ = ["LoadCheckpoint", "Snapshot", "find_checkpoints", "learning_rate", "load_checkpoint", "untouched"]

LoadCheckpoint = Callable[..., Any]


def load_checkpoint(model: nn.Module, path: Any) -> float:
    """Load a file that ``torch.save`` made of a state dict, with or without the learning rate.

    Names may carry the ``module.`` of DataParallel where the model's do not, and the other way round.

    Args:
        model: what the values are loaded into.
        path: the file, as ``torch.load`` takes it.

    Returns:
        The value under the key ``"learning_rate"``; 1.0 where there is none.

    Raises:
        InputTypeError: when the file holds no state dict.
    """
    device = next((t.device for t in (*model.parameters(), *model.buffers())), None)
    saved: object = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(saved, Mapping):
        message = f"Expected a state dict in the checkpoint, got {describe(saved)}: pass a checkpoints_load_func."
        raise InputTypeError(message)
    state: dict[str, Any] = dict(saved)
    rate = state.pop("learning_rate", 1.0)
    wanted = set(model.state_dict())
    if not wanted & set(state):
        prefix = "module."
        bare = {name.removeprefix(prefix): value for name, value in state.items()}
        wrapped = {prefix + name: value for name, value in state.items()}
        state = next((s for s in (bare, wrapped) if wanted & set(s)), state)
    model.load_state_dict(state)
    return learning_rate(rate)


def learning_rate(rate: Any) -> float:
    """The number that a load function returned.

    Raises:
        InputTypeError: when it returned something else.
    """
    try:
        return float(rate)
    except (TypeError, ValueError):
        message = (
            f"Expected checkpoints_load_func(model, checkpoint) to return the learning rate, got {describe(rate)}: "
            "return 1.0 where there is none."
        )
        raise InputTypeError(message) from None


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key by which ``b9`` comes before ``b10``."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def find_checkpoints(checkpoints: Any) -> list[Any]:
    """All checkpoints, in their order.

    Args:
        checkpoints: a directory, whose files are taken in natural order; a list of paths, which are sorted the same
            way; or any other objects that the load function knows, which stay in their order.

    Returns:
        At least one checkpoint.

    Raises:
        InputError: when there is none.
        InputTypeError: when ``checkpoints`` is nothing to go through.
    """
    if isinstance(checkpoints, (str, Path)):
        folder = Path(checkpoints)
        if not folder.is_dir():
            message = f"Expected a directory of checkpoints, got {str(folder)!r}: put a single file into a list."
            raise InputError(message)
        found: list[Any] = [str(p) for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    elif isinstance(checkpoints, Iterable):
        found = list(checkpoints)
    else:
        message = f"Expected a directory, a list of paths or an iterable of checkpoints, got {describe(checkpoints)}."
        raise InputTypeError(message)
    if not found:
        message = "Expected at least one checkpoint, got none."
        raise InputError(message)
    return sorted(found, key=_natural) if all(isinstance(c, str) for c in found) else found


Slot = tuple[dict[str, Any], str, Any]


class Snapshot:
    """The values of a model's parameters and buffers, its modes and gradients, to be put back later."""

    def __init__(self, model: nn.Module) -> None:
        self._slots: list[Slot] = []
        self._values: dict[int, tuple[Tensor, Tensor, bool, Tensor | None]] = {}
        self._modes: list[tuple[nn.Module, bool]] = [(m, m.training) for m in model.modules()]
        for module in model.modules():
            self._note(module._parameters)  # named_parameters() leaves out ties
            self._note(module._buffers)

    def _note(self, room: dict[str, Any]) -> None:
        for name, tensor in room.items():
            self._slots.append((room, name, tensor))
            if isinstance(tensor, Tensor) and id(tensor) not in self._values:
                grad = tensor.grad if tensor.is_leaf else None
                self._values[id(tensor)] = (tensor, tensor.detach().clone(), tensor.requires_grad, grad)

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back into the model."""
        for room, name, tensor in self._slots:
            room[name] = tensor
        for tensor, kept, wants_grad, grad in self._values.values():
            if tensor.shape == kept.shape and tensor.dtype == kept.dtype:
                tensor.data.copy_(kept)
            else:
                tensor.data = kept.clone()
            if tensor.requires_grad != wants_grad:
                tensor.requires_grad_(wants_grad)
            if tensor.is_leaf:
                tensor.grad = grad
        for module, training in self._modes:
            module.training = training


@contextlib.contextmanager
def untouched(model: nn.Module) -> Generator[None]:
    """A block with gradients after which the model and the random streams of torch are as before."""
    devices = {t.device.index for t in (*model.parameters(), *model.buffers()) if t.is_cuda}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(sorted(devices)))
        stack.callback(Snapshot(model).restore)
        if "torch._dynamo.eval_frame" in sys.modules:  # compiled code hides its operators from torch.func
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield
