"""The layer that layer methods look at unless told otherwise."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from captum._engine.score import read_output
from captum.attr.arrangement import arrangement
from captum.errors import InputError, LayerError

if TYPE_CHECKING:
    from captum.cli.models import Subject

__all__ = ["late_layer"]

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
                nn.Hardswish, nn.Softplus, nn.Tanh, nn.Sigmoid)  # fmt: skip


def late_layer(subject: Subject, inputs: Tensor, index: int) -> str:
    """Return the path of the last module that still knows places and whose places matter to a score.

    In a convolutional network that is its last block; in a vision transformer that reads a class token, the norm that
    opens its last block, since behind it patches say nothing to the score any more.

    Args:
        subject: The model.
        inputs: The photo as the model takes it, ``(1, C, H, W)``.
        index: The class whose score it is.

    Raises:
        InputError: There is no such module.
    """
    if subject.layer is not None:
        return subject.layer
    modules = subject.modules()
    seen = _values(subject, inputs, index) if inputs.dim() == 4 else {}
    for value, grad in reversed(seen.values()):
        same = [path for path, (other, _) in seen.items() if other is value]
        maker = modules[same[0]]
        if _makes_features(maker) and _has_places(value, grad, maker, subject, inputs):
            blocks = [path for path in same if any(modules[path].children())]
            return (blocks or same)[0]
    some = ", ".join(list(modules)[1:6])
    message = (
        f"{subject.name} has no layer of maps, or of tokens on a grid, that this score depends on; name a layer with "
        f"--layer, such as {some}"
    )
    raise InputError(message)


def _values(subject: Subject, inputs: Tensor, index: int) -> dict[str, tuple[Tensor, Tensor]]:
    """What every module made in its last run, in the order of these runs, and the score's gradient by it."""
    made: dict[str, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for path, module in subject.modules().items():
            if path and not isinstance(module, torch.jit.ScriptModule):
                stack.enter_context(_watched(module, path, made))
        with torch.enable_grad():
            output: object = subject.model(inputs.detach().clone().requires_grad_())
            score = read_output(output)[0, index]
    differentiable = {path: value for path, value in made.items() if value.requires_grad}
    if not score.requires_grad or not differentiable:
        return {}
    grads = torch.autograd.grad(score, list(differentiable.values()), materialize_grads=True)
    pairs = zip(differentiable.items(), grads, strict=True)
    return {path: (value, grad) for (path, value), grad in pairs}


def _watched(module: nn.Module, path: str, made: dict[str, Tensor]) -> contextlib.ExitStack:
    def note(_module: nn.Module, _arguments: object, output: object) -> None:
        made.pop(path, None)  # the last run counts
        if isinstance(output, Tensor):
            made[path] = output

    stack = contextlib.ExitStack()
    stack.callback(module.register_forward_hook(note).remove)
    return stack


def _makes_features(module: nn.Module) -> bool:
    """Blocks, convolutions, norms and activations do; poolings, projections, dropout and softmax do not."""
    leaf = not any(module.children())
    return not leaf or isinstance(module, (nn.Conv2d, *_ACTIVATIONS)) or "Norm" in type(module).__name__


def _has_places(value: Tensor, grad: Tensor, module: nn.Module, subject: Subject, inputs: Tensor) -> bool:
    """Whether a value lies over the photo, and the score depends on what is there."""
    if value.dim() not in {3, 4} or len(value) != 1:
        return False
    image = tuple(int(size) for size in inputs.shape[1:])
    try:
        maps = arrangement(value, module, lambda: list(subject.modules().values()), image, len(inputs))(grad)
    except LayerError:
        return False
    if maps.dim() != 4 or maps.shape[2] > image[1] or maps.shape[3] > image[2]:
        return False
    return bool(maps.ne(0).any())
