"""Shadows: for every integer tensor of a forward pass, which element of which input each of its elements comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: Operators that move elements of their first argument without changing them.
_MOVES = frozenset(
    """
    view reshape flatten unflatten squeeze unsqueeze transpose permute t swapaxes swapdims movedim moveaxis contiguous
    clone detach __get__ __getitem__ select narrow index_select take_along_dim gather take masked_select split chunk
    unbind
    tensor_split hsplit vsplit expand expand_as broadcast_to repeat repeat_interleave tile roll flip fliplr flipud rot90
    ravel view_as reshape_as cat stack concat concatenate hstack vstack unfold diagonal squeeze_ unsqueeze_ transpose_
    """.split()  # noqa: SIM905  # a list of words reads better
)
#: Reads of a table of integers: where the table is a constant, the result belongs to the indices.
_READS = frozenset({"__getitem__", "gather", "take", "index_select", "take_along_dim"})
#: Operators whose result has the form of their argument, and none of its elements; running counts, as of positions.
_FRESH = frozenset(
    [
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "randint_like",
        "new_tensor",
        "new",
    ]
)
#: Operators that read their first argument only: of the others they take the form, the dtype or the device.
_OF_THE_FIRST = frozenset(["expand_as", "view_as", "reshape_as", "type_as", "to"])
#: Operators after which an element belongs to no single one of the argument.
_MIXES = frozenset("argsort unique scatter scatter_add index_add matmul mm bmm __matmul__ msort multinomial".split())  # noqa: SIM905
_WRITES = frozenset(
    [
        "__setitem__",
        "copy_",
        "fill_",
        "zero_",
        "scatter_",
        "index_copy_",
        "index_put_",
        "masked_scatter_",
        "scatter_add_",
    ]
)

NOWHERE = -1


class Shadow:
    """Where the elements of ``owner`` come from: numbers of input elements, ``NOWHERE`` for constants, or None."""

    __slots__ = ("owner", "positions")

    def __init__(self, owner: Tensor, positions: Tensor | None) -> None:
        self.owner = owner
        self.positions = positions


class Shadows:
    """The shadows of one forward pass.

    Args:
        tensors: the integer inputs, each with the numbers of its elements.
    """

    def __init__(self, tensors: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._known = {id(t): Shadow(t, numbers) for t, numbers in tensors}

    def of(self, value: object) -> Shadow | None:
        """The shadow of a value; None for a constant."""
        return self._known.get(id(value)) if isinstance(value, Tensor) else None

    def follow(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
        """Learn from one torch call and what it returned."""
        found = [s for s in map(self.of, _values(args, kwargs)) if s is not None]
        name = getattr(func, "__name__", "")
        if not found or name in _FRESH or (name in _OF_THE_FIRST and args and self.of(args[0]) is None):
            return
        if name in _OF_THE_FIRST:
            found = found[:1]
        if name in _WRITES:
            self._write(name, args, kwargs)
            return
        outs: list[Any] = list(out) if isinstance(out, (list, tuple)) else [out]
        if not any(_is_integer(o) for o in outs):
            return
        moved = self._moved(func, name, found, (args, kwargs, outs))
        if len(moved) != len(outs):
            moved = [None] * len(outs)
        for result, positions in zip(outs, moved, strict=True):
            if _is_integer(result):
                self._learn(result, positions)

    def _learn(self, result: Tensor, positions: Tensor | None) -> None:
        if positions is not None and positions.shape != result.shape:
            positions = None
        known = self._known.get(id(result))
        if known is None:
            self._known[id(result)] = Shadow(result, positions)
        elif known.positions is None or known.positions.shape != result.shape:
            known.positions = positions

    def _moved(
        self,
        func: Callable[..., Any],
        name: str,
        found: list[Shadow],
        call: tuple[Sequence[Any], dict[str, Any], list[Any]],
    ) -> Sequence[Tensor | None]:
        """Positions of each result."""
        args, kwargs, outs = call
        nothing = [None] * len(outs)
        if name in _MIXES:
            return nothing
        try:
            if name in _MOVES:
                return self._by_moving(func, name, found, call)
            if name == "pad":
                return self._by_padding(*args, **kwargs)
            if name == "broadcast_tensors":
                pairs = zip(_values(args, kwargs), outs, strict=True)
                return [None if (p := self._positions(v)) is None else p.expand(o.shape).clone() for v, o in pairs]
            if name == "where" and len(outs) == 1:
                return [self._by_choosing(func is torch.where, args, kwargs)]
            if name in ("sort", "topk") and found[0].positions is not None:
                dim = kwargs.get("dim", args[1 if name == "sort" else 2] if len(args) > (name != "sort") + 1 else -1)
                return [found[0].positions.gather(dim, outs[1].cpu()), None]
        except (RuntimeError, IndexError, TypeError):
            return nothing
        return [_shared(found, outs[0].shape, name)] if len(outs) == 1 else nothing

    def _by_moving(
        self,
        func: Callable[..., Any],
        name: str,
        found: list[Shadow],
        call: tuple[Sequence[Any], dict[str, Any], list[Any]],
    ) -> Sequence[Tensor | None]:
        args, kwargs, outs = call
        rest = dict(kwargs)
        data = args[0] if args else rest.pop("input" if "input" in rest else "tensors")
        if isinstance(data, Tensor) and self.of(data) is None:
            return [_shared(found, outs[0].shape, name)] if name in _READS else [None] * len(outs)
        positions = self._positions(data)
        if positions is None:
            return [None] * len(outs)
        shadowed = func(positions, *_on_cpu(list(args[1:])), **_on_cpu(rest))
        return list(shadowed) if isinstance(shadowed, (list, tuple)) else [shadowed]

    def _positions(self, value: Any) -> Any:
        """Positions of a tensor, or of the tensors in a list; constants come from nowhere. None when one is unknown."""
        if isinstance(value, (list, tuple)):
            parts = [self._positions(v) for v in value]
            return None if any(p is None for p in parts) else parts
        shadow = self.of(value)
        return _nowhere(value.shape) if shadow is None else shadow.positions

    def _by_padding(
        self,
        input: Tensor,  # noqa: A002  # torch's names
        pad: Any,
        mode: str = "constant",
        value: object = None,  # noqa: ARG002
    ) -> list[Tensor | None]:
        positions = self._positions(input)
        return [None if positions is None or mode != "constant" else F.pad(positions, pad, value=NOWHERE)]

    def _by_choosing(self, plain: bool, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
        """Positions of ``where``; a constant that takes an element's place keeps its position."""
        condition = kwargs["condition"] if "condition" in kwargs else args[0 if plain else 1]
        named = [kwargs[k] for k in ("input", "self", "other") if k in kwargs]
        choices = [*[a for i, a in enumerate(args) if i != (0 if plain else 1)], *named]
        shadows = [self.of(c) for c in choices] or [None]
        known = [s for s in shadows if s is not None] or [s for s in [self.of(condition)] if s is not None]
        if any(s.positions is None for s in known):
            return None
        first, last = (s.positions if s is not None else known[0].positions for s in (shadows[0], shadows[-1]))
        if first is None or last is None:
            return None
        return torch.where(condition.cpu(), first, last)

    def _write(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Follow what an operator writes into its first argument."""
        target = args[0] if args else kwargs.get("input")
        if not isinstance(target, Tensor) or not _is_integer(target):
            return
        shadow = self._known.setdefault(id(target), Shadow(target, _nowhere(target.shape)))
        if shadow.positions is None:
            return
        if name not in ("__setitem__", "copy_", "fill_", "zero_"):
            shadow.positions = None
            return
        key: Any = args[1] if name == "__setitem__" else Ellipsis
        if isinstance(key, Tensor) and key.shape == target.shape and not isinstance(args[2], Tensor):
            return  # a constant in the place of chosen elements: they keep their positions, as in masked_fill
        value = args[-1] if name in ("__setitem__", "copy_") else 0
        source = self._positions(value) if isinstance(value, Tensor) else NOWHERE
        try:
            shadow.positions[_on_cpu(key)] = source if source is not None else NOWHERE
            shadow.positions = None if source is None else shadow.positions
        except (RuntimeError, IndexError, TypeError):
            shadow.positions = None


def _shared(found: list[Shadow], shape: torch.Size, name: str) -> Tensor | None:
    """Positions of the result of an elementwise operator: those that its arguments share."""
    spread: list[Tensor] = []
    for shadow in found[:1] if name.startswith("masked_fill") else found:
        if shadow.positions is None:
            return None
        try:
            spread.append(shadow.positions.expand(shape))
        except RuntimeError:
            return None
    if any(not torch.equal(spread[0], other) for other in spread[1:]):
        return None
    return spread[0].clone()


def _values(args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Any]:
    for value in (*args, *kwargs.values()):
        if isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value


def _is_integer(value: object) -> bool:
    """Whether a value may be ids: comparisons of ids are masks, and what is made of masks does not read the ids."""
    return (
        isinstance(value, Tensor)
        and value.dtype is not torch.bool
        and not value.dtype.is_floating_point
        and not value.dtype.is_complex
    )


def _nowhere(shape: torch.Size) -> Tensor:
    return torch.full(shape, NOWHERE, dtype=torch.long, device="cpu")


def _on_cpu(value: Any) -> Any:
    """The indices of a call where positions are."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {k: _on_cpu(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_on_cpu(v) for v in value]) if type(value) in (list, tuple) else value
    return value
