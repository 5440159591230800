"""Fills: what stands in the place of features that are absent.

Pass one as ``baselines=``. A new fill is a class with :meth:`Fill.ready`.

- a tensor, a number or None: :class:`Constant` values;
- :class:`Mean`, :class:`Blur`: computed from the input;
- :class:`Background`: every row of a sample of the data in turn, averaged (the marginal or interventional value
  function);
- :class:`Permuted`: values of other rows of the batch;
- :class:`Function`: your own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum._engine.rows import Rows
from captum._engine.values import Inputs, describe, parse_baselines
from captum.attr.games.bits import all_zero, where
from captum.attr.games.stopping import on_host
from captum.errors import BaselineError

__all__ = ["Background", "Blur", "Constant", "Fill", "Function", "Mean", "Permuted", "Ready"]

Tensors = tuple[Tensor, ...]


class Ready(ABC):
    """A fill that knows the inputs of a call.

    Attributes:
        draws: how many fillings of a coalition are averaged.
        whole: whether it needs all examples of the batch at once.
    """

    draws: int = 1
    whole: bool = False

    @abstractmethod
    def replace(self, values: Tensors, keep: Tensors, rows: Rows | None, draws: Tensor) -> Tensors:
        """Fill what is not kept.

        Args:
            values: the input tensors, ``(b, *)`` each.
            keep: which elements stay, each broadcasts to ``(k, 1 or b, *)``.
            rows: the example of each of the ``b`` places; None for all in order.
            draws: LongTensor ``(k,)`` on the CPU, which draw each coalition uses.

        Returns:
            Tensors ``(k, b, *)``, or what broadcasts to them.
        """


class Fill(ABC):
    """What to put in the place of absent features."""

    @abstractmethod
    def ready(self, inputs: Inputs) -> Ready:
        """Prepare for the inputs of a call."""


class ConstantReady(Ready):
    """The same values for every coalition: ``(1, *)`` or ``(B, *)`` per input tensor."""

    def __init__(self, bases: Tensors) -> None:
        self.bases = bases
        self._zero = [all_zero(b) for b in bases]

    def replace(self, values: Tensors, keep: Tensors, rows: Rows | None, draws: Tensor) -> Tensors:
        """See :class:`Ready`. Replaces, so that NaN and inf are legal values."""
        del draws
        bases = self.bases if rows is None else tuple(rows.spread(b) for b in self.bases)
        return tuple(where(k, v, b, z) for k, v, b, z in zip(keep, values, bases, self._zero, strict=True))


class Constant(Fill):
    """Baselines as every method takes them.

    Args:
        baselines: None for zeros, numbers, or tensors ``(1, *)`` or ``(B, *)``, in the structure of the inputs.
    """

    def __init__(self, baselines: Any = None) -> None:
        self._baselines = baselines

    def ready(self, inputs: Inputs) -> Ready:
        """See :class:`Fill`."""
        return ConstantReady(parse_baselines(self._baselines, inputs))


class Mean(Fill):
    """The mean of each channel (dim 1) of the example over the dims after it; of a vector, its mean."""

    def ready(self, inputs: Inputs) -> Ready:
        """See :class:`Fill`."""
        return ConstantReady(tuple(_mean(t) for t in inputs.tensors))


def _mean(tensor: Tensor) -> Tensor:
    floating = tensor if tensor.dtype.is_floating_point else tensor.to(torch.get_default_dtype())
    dims = tuple(range(2 if tensor.dim() > 2 else 1, tensor.dim()))
    return floating.mean(dims, keepdim=True).expand_as(tensor) if dims else floating


class Blur(Fill):
    """A Gaussian blur over the spatial dims, the ones after the channels.

    Args:
        sigma: standard deviation in elements.
    """

    def __init__(self, sigma: float = 10.0) -> None:
        if isinstance(sigma, bool) or not isinstance(sigma, Real) or not sigma > 0:
            message = f"Expected a positive sigma in elements, got {sigma!r}."
            raise BaselineError(message)
        self.sigma = sigma

    def ready(self, inputs: Inputs) -> Ready:
        """See :class:`Fill`."""
        return ConstantReady(tuple(self._blurred(t) for t in inputs.tensors))

    def _blurred(self, tensor: Tensor) -> Tensor:
        if tensor.dim() < 3 or not tensor.dtype.is_floating_point:
            message = f"Expected images or series (B, C, …) of floating point to blur, got {describe(tensor)}."
            raise BaselineError(message)
        out = tensor
        for dim in range(2, tensor.dim()):
            reach = min(math.ceil(3 * self.sigma), tensor.shape[dim] - 1)
            offsets = torch.arange(-reach, reach + 1, device=tensor.device, dtype=tensor.dtype)
            kernel = torch.exp(-0.5 * (offsets / self.sigma) ** 2)
            last = out.movedim(dim, -1)
            padded = F.pad(last.reshape(1, -1, last.shape[-1]), (reach, reach), mode="reflect" if reach else "constant")
            blurred = F.conv1d(padded.transpose(0, 1), (kernel / kernel.sum())[None, None])
            out = blurred.reshape(last.shape).movedim(-1, dim)
        return out


class BackgroundReady(Ready):
    """Every row of the samples is one draw."""

    def __init__(self, samples: Tensors) -> None:
        self.samples = samples
        self.draws = len(samples[0])

    def replace(self, values: Tensors, keep: Tensors, rows: Rows | None, draws: Tensor) -> Tensors:
        """See :class:`Ready`."""
        del rows
        filled: list[Tensor] = []
        for kept, value, sample in zip(keep, values, self.samples, strict=True):
            base = sample[draws.to(sample.device)]
            filled.append(where(kept, value, base if kept.shape[0] == 1 else base[:, None]))
        return tuple(filled)


class Background(Fill):
    """Each row of a sample of the data in turn; scores are averaged over the rows.

    ``v(S) = 1/N Σ_j F(x_S, d^j_{not S})``: the marginal (interventional) value function of SHAP.

    Args:
        samples: tensor ``(N, *)`` per input tensor, rows aligned across tensors.
    """

    def __init__(self, samples: Tensor | Tensors) -> None:
        self._samples = samples if isinstance(samples, tuple) else (samples,)

    def ready(self, inputs: Inputs) -> Ready:
        """See :class:`Fill`."""
        shapes = [tuple(t.shape[1:]) for t in inputs.tensors]
        counts = {len(s) for s in self._samples}
        if [tuple(s.shape[1:]) for s in self._samples] != shapes or len(counts) != 1 or 0 in counts:
            message = (
                f"Expected background samples (N, *) with features {shapes} and one N > 0, got "
                f"{[tuple(s.shape) for s in self._samples]}."
            )
            raise BaselineError(message)
        pairs = zip(self._samples, inputs.tensors, strict=True)
        return BackgroundReady(tuple(s.to(t if t.dtype.is_floating_point else t.device) for s, t in pairs))


class Permuted(Fill):
    """Values of other rows of the batch: one permutation of the rows, without fixed order, for all features together.

    Args:
        generator: source of randomness; None for torch's global one.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = on_host(generator)

    def ready(self, inputs: Inputs) -> Ready:
        """See :class:`Fill`."""
        order = permutation(inputs.batch, self.generator)
        return ConstantReady(tuple(t[order.to(t.device)] for t in inputs.tensors))


def permutation(rows: int, generator: torch.Generator | None) -> Tensor:
    """A permutation of ``rows`` ≥ 2 rows that is not the identity."""
    if rows < 2:
        message = f"Expected a batch of at least 2 rows to permute, got {rows}."
        raise BaselineError(message)
    unchanged = torch.arange(rows, device="cpu")
    while True:
        order = torch.randperm(rows, generator=generator, device="cpu")
        if not torch.equal(order, unchanged):
            return order


class FunctionReady(Ready):
    """Calls the user's function on whole chunks."""

    def __init__(self, function: Callable[[Any, Any], Any], inputs: Inputs) -> None:
        self._function = function
        self._inputs = inputs

    def replace(self, values: Tensors, keep: Tensors, rows: Rows | None, draws: Tensor) -> Tensors:
        """See :class:`Ready`."""
        del rows, draws
        shapes = [torch.broadcast_shapes(k.shape, v.shape) for k, v in zip(keep, values, strict=True)]
        flat = [  # copies, for functions that write into them
            tuple(
                t.expand(s).clone(memory_format=torch.contiguous_format).reshape(-1, *s[2:])
                for t, s in zip(ts, shapes, strict=True)
            )
            for ts in (values, keep)
        ]
        single = self._inputs.form == "tensor"
        filled = self._function(*((f[0] for f in flat) if single else flat))
        parts: Any = filled if isinstance(filled, (tuple, list)) else (filled,)
        fit = len(parts) == len(values) and all(
            isinstance(p, Tensor) and p.shape == f.shape for p, f in zip(parts, flat[0], strict=False)
        )
        if not fit:
            message = (
                f"Expected the fill function to return tensors of the shapes {[tuple(f.shape) for f in flat[0]]} that "
                f"it was given, got {describe(filled)}."
            )
            raise BaselineError(message)
        return tuple(p.reshape(s) for p, s in zip(parts, shapes, strict=True))


class Function(Fill):
    """Your own fill.

    Args:
        function: ``(inputs, keep) -> filled``: inputs ``(n, *)`` with repeated rows, keep a bool tensor of the same
            shape; tuples of these for several input tensors.
    """

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self._function = function

    def ready(self, inputs: Inputs) -> Ready:
        """See :class:`Fill`."""
        return FunctionReady(self._function, inputs)


def parse_fill(baselines: Any, inputs: Inputs) -> Ready:
    """Read ``baselines=`` of a game: a fill, or baselines as every method takes them."""
    if isinstance(baselines, type) and issubclass(baselines, Fill):
        message = f"Expected a fill, got its class: write baselines={baselines.__name__}(…)."
        raise BaselineError(message)
    return (baselines if isinstance(baselines, Fill) else Constant(baselines)).ready(inputs)
