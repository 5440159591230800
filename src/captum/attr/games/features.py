"""Features: what the players of a game are, as parts of the input tensors."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from captum._engine.rows import Rows
from captum._engine.values import Inputs, describe, per_input
from captum.errors import BaselineError, MaskError


class Features(Protocol):
    """Players as parts of tensors.

    Attributes:
        players: number of players M.
        shared: whether a player is the same part of every example.
    """

    players: int
    shared: bool

    def keep(self, members: Tensor, rows: Rows | None) -> tuple[Tensor, ...]:
        """Which elements stay: for members ``(k, b, M)``, a bool tensor per input, broadcast to ``(k, b or n, *)``.

        ``rows`` names the example of each of the ``b`` places; None means all examples in order, or the same for all.
        """
        ...

    def spread(self, values: Tensor, batch: int) -> tuple[Tensor, ...]:
        """Write values ``(M, n)`` on the elements of the players: ``(n, *)`` per input tensor."""
        ...


class Groups:
    """Players are groups of elements with the same id in a mask; groups may cross tensors and differ between examples.

    Args:
        masks: one LongTensor ``(1, *)`` or ``(B, *)`` per input tensor, or None where every element is its own player.
        tensors: the tensors that are divided.

    Attributes:
        players: number of ids; player ``i`` is the ``i``-th smallest id, gaps do not count.
        shared: whether all masks have one row.
        ids: the player of each element, per tensor.
    """

    def __init__(self, masks: tuple[Tensor | None, ...], tensors: tuple[Tensor, ...]) -> None:
        self._shapes = [tuple(t.shape[1:]) for t in tensors]
        self._moved: dict[torch.device, list[Tensor]] = {}
        self._sorted: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self._starts: list[int | None] = []
        if all(m is None for m in masks):
            self._each_element()
            return
        given = [m for m in masks if m is not None and m.numel()]
        start = 1 + max((int(m.max()) for m in given), default=-1)
        labelled: list[Tensor] = []
        for mask, shape in zip(masks, self._shapes, strict=True):
            if mask is not None:
                labelled.append(_thin(mask.cpu()))
                continue
            labelled.append(torch.arange(start, start + math.prod(shape), device="cpu").reshape(1, *shape))
            start += math.prod(shape)
        flat = torch.cat([m.reshape(-1) for m in labelled])
        labels, places = torch.unique(flat, return_inverse=True)
        parts = places.split([m.numel() for m in labelled])
        self.ids = [
            p.reshape(m.shape).expand(len(m), *shape) for p, m, shape in zip(parts, labelled, self._shapes, strict=True)
        ]
        self.players = len(labels)
        self.shared = all(len(i) == 1 for i in self.ids)
        self._starts = [_run_start(i) for i in self.ids]

    def _each_element(self) -> None:
        """Every element is its own player, tensor after tensor."""
        sizes = [math.prod(shape) for shape in self._shapes]
        self.players, self.shared = sum(sizes), True
        counted = torch.arange(self.players, device="cpu").split(sizes)
        self.ids = [part.reshape(1, *shape) for part, shape in zip(counted, self._shapes, strict=True)]
        self._starts = [sum(sizes[:i]) if size else None for i, size in enumerate(sizes)]

    def keep(self, members: Tensor, rows: Rows | None) -> tuple[Tensor, ...]:
        """See :class:`Features`."""
        out: list[Tensor] = []
        for number, ids in enumerate(self._on(members.device)):
            start, shape = self._starts[number], tuple(ids.shape[1:])
            if start is not None:
                kept = members[..., start : start + math.prod(shape)]
            else:
                mine = ids if rows is None or len(ids) == 1 else rows.pick(ids)
                lead = (len(members), max(len(mine), members.shape[1]))
                kept = members.expand(*lead, -1).gather(2, mine.reshape(1, len(mine), -1).expand(*lead, -1))
            out.append(kept.reshape(*kept.shape[:2], *shape))
        return tuple(out)

    def spread(self, values: Tensor, batch: int) -> tuple[Tensor, ...]:
        """See :class:`Features`."""
        outputs = values.shape[1]
        if not self.shared and outputs % batch:
            message = (
                f"Feature masks that differ between the {batch} examples need a score per example; the output has "
                f"{outputs} "
                "element(s) for the whole batch. Use masks with dim 0 = 1."
            )
            raise MaskError(message)
        return tuple(self._write(values, ids, shape, batch) for ids, shape in zip(self.ids, self._shapes, strict=True))

    def _write(self, values: Tensor, ids: Tensor, shape: tuple[int, ...], batch: int) -> Tensor:
        outputs = values.shape[1]
        if len(ids) == 1:
            return values[ids.reshape(-1)].T.reshape(outputs, *shape)
        by_row = values.reshape(self.players, batch, outputs // batch)
        picked = by_row[ids.reshape(batch, -1), torch.arange(batch, device="cpu")[:, None]]
        return picked.transpose(1, 2).reshape(outputs, *shape)

    def elements(self, number: int, variant: Tensor, player: Tensor) -> tuple[Tensor, Tensor]:
        """The elements of players in tensor ``number``: pairs (variant, player) become pairs (variant, element)."""
        start, size = self._starts[number], math.prod(self._shapes[number])
        if start is not None:
            if start == 0 and size == self.players:
                return variant, player
            mine = (player >= start) & (player < start + size)
            return variant[mine], player[mine] - start
        if number not in self._sorted:
            ids = self.ids[number].reshape(-1)
            sizes = torch.bincount(ids, minlength=self.players)
            self._sorted[number] = (ids.argsort(), sizes, sizes.cumsum(0) - sizes)
        order, sizes, starts = self._sorted[number]
        counts = sizes[player]
        ends = counts.cumsum(0)
        within = torch.arange(int(counts.sum()), device="cpu") - (ends - counts).repeat_interleave(counts)
        return variant.repeat_interleave(counts), order[starts[player].repeat_interleave(counts) + within]

    def visits(self) -> list[int]:
        """Players tensor by tensor, ids ascending, each when it is met first."""
        seen: dict[int, None] = {}
        for ids in self.ids:
            seen.update(dict.fromkeys(ids.unique().tolist()))
        return list(seen)

    def _on(self, device: torch.device) -> list[Tensor]:
        """The players of elements, for elements that the mask tells apart."""
        if device not in self._moved:
            self._moved[device] = [_thin(i).to(device) for i in self.ids]
        return self._moved[device]


def _thin(ids: Tensor) -> Tensor:
    """A mask without the repeats along dims that it was broadcast to."""
    for dim in range(1, ids.dim()):
        ids = ids[(slice(None),) * dim + (slice(1),)] if ids.stride(dim) == 0 else ids
    return ids


def _run_start(ids: Tensor) -> int | None:
    """The first id when ids count up element by element, so that a slice serves; else None."""
    if len(ids) != 1 or not ids.numel():
        return None
    first = int(ids.reshape(-1)[0])
    return first if torch.equal(ids.reshape(-1), torch.arange(first, first + ids.numel(), device="cpu")) else None


def parse_masks(feature_mask: Any, inputs: Inputs, name: str = "feature_mask") -> Groups:
    """Read a feature mask in the structure of the inputs; None makes every element a feature."""
    try:
        entries = per_input(feature_mask, inputs, name)
    except BaselineError as fault:
        raise MaskError(str(fault)) from None
    return groups_of(entries, inputs.tensors, inputs.names, name)


def groups_of(
    entries: tuple[Any, ...], tensors: tuple[Tensor, ...], names: tuple[str, ...], name: str = "feature_mask"
) -> Groups:
    """Check masks against the tensors that they divide."""
    if len(entries) != len(tensors):
        message = f"Expected {name} for {len(tensors)} tensor(s), got {len(entries)}; pass a tuple of {len(tensors)}."
        raise MaskError(message)
    masks = tuple(
        None if e is None else _as_ids(e, t, n, name) for e, t, n in zip(entries, tensors, names, strict=True)
    )
    return Groups(masks, tensors)


def _as_ids(mask: Any, tensor: Tensor, owner: str, name: str) -> Tensor:
    """A mask as ids ``(1, *)`` or ``(B, *)``, broadcast from the right."""
    shape = tuple(tensor.shape)
    expected = f"Expected {name} of {owner} to be an integer Tensor that broadcasts to {shape} from the right"
    if not isinstance(mask, Tensor) or mask.dtype.is_floating_point or mask.dtype.is_complex:
        message = f"{expected} (dim 0 of size 1 or {shape[0]}), got {describe(mask)}."
        raise MaskError(message)
    fits = mask.dim() <= len(shape) and all(
        have in (1, want) for have, want in zip(reversed(mask.shape), reversed(shape), strict=False)
    )
    if not fits:
        message = f"{expected}, got shape {tuple(mask.shape)}."
        raise MaskError(message)
    padded = mask.long().reshape(*([1] * (len(shape) - mask.dim())), *mask.shape)
    return padded.expand(padded.shape[0], *shape[1:])
