"""Embedding look-ups that consume an integer input, found by watching the operators of a forward pass.

Token ids carry no gradient. The variable moves to the outputs of the look-ups that read them, and a shadow tensor of
positions, carried through the reshapes and slices between input and look-up, brings the scores back to the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum.errors import LayerError

#: Operators that move elements without changing them.
_MOVES = frozenset(
    """
    view reshape flatten unflatten squeeze unsqueeze transpose permute t swapaxes movedim contiguous
    clone detach __getitem__ select narrow index_select take_along_dim gather split chunk unbind
    tensor_split expand expand_as repeat repeat_interleave roll flip ravel view_as reshape_as cat stack
    concat concatenate hstack vstack
    """.split()  # noqa: SIM905  # a list of words reads better
)


@dataclass(slots=True)
class Lookup:
    """One look-up: which run of ``embedding`` it is, and where its ids come from.

    Attributes:
        order: its number among all look-ups of the forward pass.
        leaf: which input tensor it reads.
        positions: LongTensor, for each id the flat position in one example of that input; None when unknown.
        value: what it returned, ``(B, …, D)``.
        flat: how many rows of the look-up belong to one example when it was called on ``(B·flat,)`` ids, else None.
    """

    order: int
    leaf: int
    positions: Tensor | None
    value: Tensor
    flat: int | None

    def scatter(self, scores: Tensor, like: Tensor) -> Tensor:
        """Bring scores of the looked-up ids ``(n, …)`` back to the elements of the input, summed, ``(n, *)``."""
        count = len(scores)
        width = like[0].numel()
        if self.positions is None:
            message = (
                f"An embedding reads ids of shape {tuple(scores.shape)} computed from an input {tuple(like.shape)} in a way "
                "that does not say which token each belongs to. Attribute to the embedding layer instead."
            )
            raise LayerError(message)
        place = self.positions.reshape(-1).to(scores.device)
        out = scores.new_zeros((count, width)).index_add(1, place, scores.reshape(count, -1))
        return out.reshape(count, *like.shape[1:])


class _Shadow:
    """Where the elements of a tensor derived from an input come from."""

    __slots__ = ("leaf", "owner", "positions")

    def __init__(self, owner: Tensor, leaf: int, positions: Tensor | None) -> None:
        self.owner = owner
        self.leaf = leaf
        self.positions = positions


class _Mode(TorchFunctionMode):
    """What both modes share: ``embedding_bag`` in terms of ``embedding``, so that each id has its own vector."""

    def bag(
        self,
        input: Tensor,  # noqa: A002  # the name that torch gives it
        weight: Tensor,
        offsets: Tensor | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        per_sample_weights: Tensor | None = None,
        include_last_offset: bool = False,  # noqa: ARG002  # only matters with offsets
        padding_idx: int | None = None,
    ) -> Tensor:
        """Called with the mode switched off; the look-up inside it is seen by the mode again."""
        if input.dim() != 2 or offsets is not None or mode not in ("sum", "mean", "max"):
            message = "Token inputs of nn.EmbeddingBag are supported as (B, L) ids; got offsets. Pass ids as a matrix."
            raise LayerError(message)
        with self:
            vectors = F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        if per_sample_weights is not None:
            vectors = vectors * per_sample_weights[..., None]
        keep = torch.ones_like(input, dtype=torch.bool) if padding_idx is None else input != padding_idx
        if mode == "max":
            return vectors.masked_fill(~keep[..., None], -torch.inf).amax(1)
        total = (vectors * keep[..., None]).sum(1)
        return total if mode == "sum" else total / keep.sum(1, keepdim=True).clamp(min=1)


class Watch(_Mode):
    """Follow integer inputs through a forward pass and keep the look-ups that read them.

    Args:
        tensors: the inputs, by their number; only integer ones are followed.
        batch: number of examples.
    """

    def __init__(self, tensors: dict[int, Tensor], batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.lookups: list[Lookup] = []
        self._count = 0
        self._shadows: dict[int, _Shadow] = {}
        for leaf, tensor in tensors.items():
            positions = torch.arange(tensor.numel(), device="cpu").reshape(tensor.shape)
            self._shadows[id(tensor)] = _Shadow(tensor, leaf, positions)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See one torch call."""
        kwargs = kwargs or {}
        if func is F.embedding_bag:
            return self.bag(*args, **kwargs)
        out = func(*args, **kwargs)
        if func is F.embedding:
            self._see_lookup(args[0] if args else kwargs["input"], out)
            return out
        source = self._source(args, kwargs)
        if source is not None:
            self._follow(func, source, args, kwargs, out)
        return out

    def _source(self, args: Sequence[Any], kwargs: dict[str, Any]) -> _Shadow | None:
        values = [*args, *kwargs.values()]
        values += [v for a in args if isinstance(a, (list, tuple)) for v in a]
        for value in values:
            if isinstance(value, Tensor) and id(value) in self._shadows:
                return self._shadows[id(value)]
        return None

    def _follow(
        self, func: Callable[..., Any], source: _Shadow, args: Sequence[Any], kwargs: dict[str, Any], out: Any
    ) -> None:
        outs: list[Any] = list(out) if isinstance(out, (list, tuple)) else [out]
        if not any(isinstance(o, Tensor) and not o.dtype.is_floating_point for o in outs):
            return
        moved: list[Any] = [None] * len(outs)
        name = getattr(func, "__name__", "")
        if name in _MOVES and source.positions is not None:
            shadowed = func(*self._swap(args), **kwargs)
            moved = list(shadowed) if isinstance(shadowed, (list, tuple)) else [shadowed]
        elif source.positions is not None and len(outs) == 1 and outs[0].shape == source.positions.shape:
            moved = [source.positions]
        elif source.positions is not None and len(outs) == 1:
            moved = [_broadcast(source.positions, outs[0].shape)]
        for result, positions in zip(outs, moved, strict=True):
            if isinstance(result, Tensor) and not result.dtype.is_floating_point:
                self._shadows[id(result)] = _Shadow(result, source.leaf, positions)

    def _swap(self, args: Sequence[Any]) -> list[Any]:
        def swapped(value: Any) -> Any:
            if isinstance(value, Tensor) and id(value) in self._shadows:
                return self._shadows[id(value)].positions
            if isinstance(value, (list, tuple)) and any(
                isinstance(v, Tensor) and id(v) in self._shadows for v in value
            ):
                return [swapped(v) for v in value]
            return value

        return [swapped(a) for a in args]

    def _see_lookup(self, ids: Tensor, out: Tensor) -> None:
        self._count += 1
        shadow = self._shadows.get(id(ids))
        if shadow is None:
            return
        value, flat, positions = out.detach(), None, shadow.positions
        if ids.dim() == 1 and len(ids) != self.batch and len(ids) % self.batch == 0:
            flat = len(ids) // self.batch
            value = value.reshape(self.batch, flat, -1)
        if len(value) != self.batch:
            message = (
                f"An embedding reads ids of shape {tuple(ids.shape)}, whose dim 0 is not the batch of {self.batch}. "
                "Attribute to the embedding layer instead, with a Layer… method."
            )
            raise LayerError(message)
        if positions is not None:
            positions = _of_first_example(positions.reshape(self.batch, -1), self.batch)
        self.lookups.append(Lookup(self._count - 1, shadow.leaf, positions, value, flat))


def _of_first_example(positions: Tensor, batch: int) -> Tensor | None:
    """Positions within one example, when all examples are read alike; else unknown."""
    width = positions[0].numel()
    if width == 0:
        return None
    first = positions[0]
    if batch > 1:
        stride = positions[1] - positions[0]
        step = int(stride[0])
        if bool((stride != step).any()) or step <= 0 or bool((first >= step).any()):
            return None
    return first


def _broadcast(positions: Tensor, shape: torch.Size) -> Tensor | None:
    try:
        return positions.expand(shape)
    except RuntimeError:
        return None


class Replace(_Mode):
    """Put values in the place of chosen look-ups.

    Args:
        values: for each look-up, by its order among all look-ups of the pass, the tensor to return.
    """

    def __init__(self, values: dict[int, Tensor]) -> None:
        super().__init__()
        self._values = values
        self._count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See one torch call."""
        kwargs = kwargs or {}
        if func is F.embedding_bag:
            return self.bag(*args, **kwargs)
        if func is not F.embedding:
            return func(*args, **kwargs)
        order = self._count
        self._count += 1
        value = self._values.get(order)
        if value is None:
            return func(*args, **kwargs)
        ids = args[0] if args else kwargs["input"]
        if value.numel() != ids.numel() * value.shape[-1]:
            message = f"Look-up {order} read ids of shape {tuple(ids.shape)} now, but not on the first pass."
            raise LayerError(message)
        return value.reshape(*ids.shape, value.shape[-1]).clone()
