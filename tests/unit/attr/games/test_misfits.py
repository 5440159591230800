"""Masks and fills: what does not fit is told, and what nearly fits is made to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from captum.attr import FeatureAblation, games
from captum.errors import BaselineError, InputError

X = torch.tensor([[1.0, 5.0, 3.0]])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("今日は。元気？はい！", ["今日は。", "元気？", "はい！"]),
        ("a.\r\nb b \n\n c", ["a.", "b b", "c"]),
        ("It is 3.5. Ok", ["It is 3.5.", "Ok"]),
        ("“Yes.” No", ["“Yes.”", "No"]),
        (" \n", []),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    assert [text[a:b] for a, b in games.sentences(text)] == parts


@pytest.mark.parametrize("offsets", [[[(0, 1), (1, 2)]] * 2, [None], [3], [("a", "b")]])
def test_offsets_of_one_text(offsets: Any) -> None:
    with pytest.raises(InputError, match="one pair"):
        games.token_groups(offsets, [(0, 2)])


def test_what_is_no_tensor_is_told() -> None:
    for build in (lambda x: games.grid(x, 2), games.superpixels, lambda x: games.time_segments(x, 2)):
        with pytest.raises(InputError, match="as a Tensor, got"):
            build(np.zeros((1, 3, 8, 8)))


def test_cells_may_be_numbers_of_numpy() -> None:
    assert torch.equal(games.grid(torch.zeros(1, 1, 4), np.int64(2)), games.grid(torch.zeros(1, 1, 4), 2))


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (games.Mean, r"baselines=Mean\("),
        (games.Function(lambda _x, _keep: None), "got a NoneType"),
        (games.Function(lambda x, _keep: [x.tolist()]), "fill function"),
    ],
)
def test_what_is_no_fill_is_told(fill: Any, message: str) -> None:
    with pytest.raises(BaselineError, match=message):
        FeatureAblation(lambda x: x.sum(1)).attribute(X, baselines=fill)


def test_a_width_of_no_number_is_told() -> None:
    with pytest.raises(BaselineError, match="positive sigma"):
        games.Blur("wide")  # pyright: ignore[reportArgumentType]  # users


def test_background_samples_take_the_dtype_of_the_inputs() -> None:
    net = nn.Linear(3, 1)
    data = torch.rand(4, 3, dtype=torch.float64)
    found = FeatureAblation(net).attribute(X, baselines=games.Background(data))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, (X - data.float().mean(0)) * net.weight.detach())
