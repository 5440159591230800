"""``embedding_bag`` in primitive operators: the vectors of ids, pooled bag by bag."""

from __future__ import annotations

import torch
from torch import Tensor

from captum.errors import LayerError

MODES = ("sum", "mean", "max")


def bag_slots(ids: Tensor, offsets: Tensor, last_is_end: bool) -> tuple[Tensor, Tensor]:
    """Bags that begin at ``offsets`` of a row of ids: places in the row ``(bags, L)``, and which of them count.

    Args:
        ids: the ids of all bags, one after the other, ``(n,)``.
        offsets: where each bag begins, ``(bags,)``.
        last_is_end: whether the last offset is no beginning but the end.
    """
    end = offsets.new_tensor([len(ids)])
    bounds = offsets if last_is_end else torch.cat([offsets, end])
    sizes = bounds.diff()
    longest = int(sizes.max()) if len(sizes) else 0
    steps = torch.arange(longest, device=offsets.device)
    places = (bounds[:-1, None] + steps).clamp(max=max(len(ids) - 1, 0))
    return places, steps < sizes[:, None]


def pool(vectors: Tensor, keep: Tensor, mode: str) -> Tensor:
    """Vectors ``(bags, L, D)`` pooled over those that count, ``(bags, D)``; an empty bag is zero."""
    if mode == "max":
        highest = vectors.masked_fill(~keep[..., None], -torch.inf).amax(1)
        return highest.masked_fill(~keep.any(1, keepdim=True), 0.0)
    total = (vectors * keep[..., None]).sum(1)
    return total if mode == "sum" else total / keep.sum(1, keepdim=True).clamp(min=1)


def require_bags(bags: int, batch: int, ids: int) -> None:
    """Require as many bags for each row of the inputs."""
    if bags % batch:
        message = (
            f"nn.EmbeddingBag makes {bags} bag(s) of the {ids} ids, and the inputs have {batch} rows in dim 0: ids in "
            "one row with offsets have no row for each example. Pass ids as a matrix (B, L), short bags filled up with "
            "the bag's padding_idx, to a forward function that takes no offsets or makes them itself."
        )
        raise LayerError(message)
