"""Writing over what a coalition changes gives the bits that whole masks give."""

from __future__ import annotations

import pytest
import torch

from captum import attr
from captum.attr.games.features import groups_of
from captum.attr.games.fills import Background, ConstantReady, FunctionReady
from captum.attr.games.patches import patched
from captum.attr.games.play import everyone
from tests.subjects import drawn

X = (drawn(3, 40, seed=1), drawn(3, 2, 5, seed=2))
MASKS = {
    "each element": (None, None),
    "blocks": (torch.arange(40)[None] // 2, 20 + torch.arange(10).reshape(1, 2, 5)),
    "across tensors": (torch.arange(40)[None], torch.arange(10).flip(0).reshape(1, 2, 5) * 4),
    "gaps": (torch.arange(40)[None] * 7 + 3, torch.full((1, 1, 1), 1)),
}
BASES = {
    "shared": lambda t: torch.full((1, *t.shape[1:]), -2.0),
    "per row": lambda t: t.flip(0) * 3,
    "missing": lambda t: torch.full((1, *t.shape[1:]), torch.nan),
}


def without_one(players: int) -> torch.Tensor:
    """The full coalition, each without one player, and one without two."""
    members = everyone(players).repeat(players + 2, 1)
    members[torch.arange(1, players + 1), torch.arange(players)] = False
    members[-1, [0, -1]] = False
    return members


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("base", BASES)
def test_equal_to_whole_masks(mask: str, base: str) -> None:
    features = groups_of(MASKS[mask], X, ("a", "b"))
    fill = ConstantReady(tuple(BASES[base](t) for t in X))
    members = without_one(features.players)
    found = patched(features, fill, X, members, 3)
    assert found is not None
    keep = features.keep(members[:, None], None)
    for one, two in zip(found, fill.replace(X, keep, None, torch.zeros(0)), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)


def test_masks_are_used_where_lists_are_no_answer() -> None:
    features, fill, members = groups_of((None, None), X, ("a", "b")), ConstantReady(X), without_one(50)
    assert patched(features, fill, X, members, 3) is not None
    assert patched(features, fill, X, torch.rand(4, 50) < 0.5, 3) is None  # too many are absent
    assert patched(features, fill, X, members[:, None].expand(-1, 3, -1), 3) is None  # coalitions differ between rows
    assert patched(features, FunctionReady(lambda x, _: x, None), X, members, 3) is None  # pyright: ignore[reportArgumentType]  # never called
    assert patched(features, ConstantReady(tuple(t.double() for t in X)), X, members, 3) is None  # the dtype widens
    apart = groups_of((torch.arange(120).reshape(3, 40) % 60, None), X, ("a", "b"))
    assert patched(apart, fill, X, without_one(apart.players), 3) is None  # masks differ between rows


def test_the_input_and_earlier_chunks_stay_as_they_were() -> None:
    x, seen = drawn(2, 200, seed=3), []
    before = x.clone()

    def model(rows: torch.Tensor) -> torch.Tensor:
        seen.append((rows, rows.clone()))
        return rows.sum(1)

    found = attr.FeatureAblation(model).attribute(x, baselines=9.0)
    torch.testing.assert_close(found, x - 9.0, rtol=0, atol=1e-4)
    assert torch.equal(x, before)
    assert all(torch.equal(rows, copy) for rows, copy in seen)
    attr.FeatureAblation(lambda rows: rows.mul_(2).sum(1)).attribute(x)  # a model that writes into what it gets
    assert torch.equal(x, before)


@pytest.mark.parametrize("fill", ["constant", "background"])
def test_batches_that_are_larger_than_a_chunk(fill: str) -> None:
    """Some rows of one coalition at a time: each row gets its own values, draws and masks."""
    rows, wide = 500, 2000
    x = torch.arange(rows * wide, dtype=torch.float64).reshape(rows, wide) % 17
    mask = torch.arange(wide)[None] * 3 // wide
    calls: list[int] = []

    def model(part: torch.Tensor) -> torch.Tensor:
        calls.append(len(part))
        return part.sum(1)

    samples = torch.stack([torch.full((wide,), 1.0), torch.full((wide,), 4.0)]).double()
    baselines = Background(samples) if fill == "background" else samples[:1]
    found = attr.FeatureAblation(model).attribute(x, feature_mask=mask, baselines=baselines)
    gone = 2.5 if fill == "background" else 1.0
    for group in range(3):
        part = mask[0] == group
        torch.testing.assert_close(found[:, part][:, 0], (x[:, part] - gone).sum(1))
    assert sum(count < rows for count in calls) > 4
    draws = 2 if fill == "background" else 1
    assert sum(calls) == (rows * 5 + 12 if draws == 1 else rows * 10 + 15)  # a few rows among far ones: do rows mix?
