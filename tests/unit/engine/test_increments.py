"""Maps that differ from an example's in a box: every operator gives what it gives for whole maps."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum._engine.boxes import Span, Window
from captum._engine.increment_mode import IncrementMode, NotLocalError
from captum._engine.increments import Increment, Unchanged

EXAMPLES, CHANNELS, HEIGHT, WIDTH = 2, 4, 13, 11


def places(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def increment(dtype: torch.dtype = torch.float64) -> tuple[Increment, Tensor]:
    """Boxes at corners, edges and inside of two examples, of different sizes; and the whole maps."""
    draw = torch.Generator().manual_seed(0)
    clean = torch.randn(EXAMPLES, CHANNELS, HEIGHT, WIDTH, generator=draw, dtype=dtype)
    example = places(0, 1, 1, 0, 1)
    y = Span(places(0, 10, 4, 5, 0), places(3, 13, 6, 8, 2), HEIGHT)
    x = Span(places(0, 8, 5, 0, 9), places(2, 11, 8, 3, 11), WIDTH)
    map_ = Increment(Unchanged(lambda: clean), torch.empty(0), y, x, example)
    whole = clean[torch.from_numpy(example)].clone()
    for row in range(len(example)):
        box = whole[row, :, y.low[row] : y.high[row], x.low[row] : x.high[row]]
        box.copy_(torch.randn(box.shape, generator=draw, dtype=dtype))
    ys, xs = (torch.from_numpy(s.reach.places()) for s in (y, x))
    rows = torch.arange(len(example))[:, None, None]
    map_.values = whole.permute(0, 2, 3, 1)[rows, ys[:, :, None], xs[:, None, :]].contiguous()
    return map_, whole


def weights(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def run(body: Callable[[Tensor], Any], most: float = 1.0) -> tuple[Any, IncrementMode, Tensor]:
    """What a body makes of the boxes, and of whole maps."""
    map_, whole = increment()
    mode = IncrementMode(most)
    with torch.inference_mode():
        stand_in = mode.begin(map_)
        with mode:
            out = body(stand_in)
        return mode.end(out), mode, body(whole)


LOCAL: dict[str, Callable[[Tensor], Tensor]] = {
    "conv 3, padding 1": lambda x: F.conv2d(x, weights(5, 4, 3, 3), weights(5), padding=1),
    "conv 1": lambda x: F.conv2d(x, weights(5, 4, 1, 1)),
    "conv 1, stride 2": lambda x: F.conv2d(x, weights(5, 4, 1, 1), stride=2),
    "conv, uneven": lambda x: torch.conv2d(x, weights(5, 4, 3, 2), None, (2, 1), (0, 1), (2, 3)),
    "conv, stride over kernel": lambda x: F.conv2d(x, weights(5, 4, 2, 2), stride=3, padding=1),
    "conv, same": lambda x: F.conv2d(x, weights(5, 4, 4, 3), padding="same"),
    "conv, depthwise": lambda x: F.conv2d(x, weights(4, 1, 5, 5), padding=2, groups=4),
    "batch norm": lambda x: F.batch_norm(x, weights(4), weights(4).abs() + 1, weights(4), weights(4)),
    "max pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max pool, negative": lambda x: F.max_pool2d(-x.abs(), 3, 2, 1, ceil_mode=True),
    "max pool, dilation": lambda x: F.max_pool2d(x, (2, 3), dilation=2),
    "average pool": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "average pool, divisor": lambda x: F.avg_pool2d(x, 2, 2, 1, count_include_pad=False, divisor_override=3),
    "mean": lambda x: x.mean((2, 3)),
    "mean, kept": lambda x: torch.mean(x, dim=[-1, -2], keepdim=True),
    "sum": lambda x: x.sum((3, 2)),
    "pooled to one": lambda x: F.adaptive_avg_pool2d(x, 1),
    "relu, in place": lambda x: F.relu(x + 1, inplace=True),
    "relu, method": lambda x: (x * 2).relu_(),
    "silu": lambda x: x * torch.sigmoid(x),
    "numbers": lambda x: (1 - x) / 2 + 3 * x**2,
    "constants per channel": lambda x: x * weights(4, 1, 1) + weights(1, 4, 1, 1),
    "constant map": lambda x: x + weights(4, HEIGHT, WIDTH) * weights(WIDTH),
    "prelu": lambda x: F.prelu(x, weights(4)),
    "dropout": lambda x: F.dropout(F.dropout2d(x, 0.5, False), 0.5, training=False),
    "residual": lambda x: x + F.conv2d(x, weights(4, 4, 3, 3), padding=1),
    "dense block": lambda x: torch.cat([x, F.conv2d(x, weights(3, 4, 3, 3), padding=1)], 1),
    "spatial attention": lambda x: x * F.conv2d(x, weights(1, 4, 3, 3), padding=1).sigmoid(),
    "split": lambda x: torch.cat([x.chunk(2, 1)[1], x[:, :2] * 2], dim=1),
    "pad": lambda x: F.conv2d(F.pad(x, (1, 2, 2, 3), value=0.5), weights(4, 4, 3, 3)),
    "softmax over channels": lambda x: x.softmax(1),
    "other precision": lambda x: x.float().to(torch.float64) + x.to(x.device),
}
SPREAD: dict[str, Callable[[Tensor], Tensor]] = {
    "squeeze and excite": lambda x: x * F.adaptive_avg_pool2d(x, 1).sigmoid(),
    "flatten": lambda x: F.linear(x.flatten(1), weights(3, CHANNELS * HEIGHT * WIDTH)),
    "instance norm": F.instance_norm,
    "transposed": lambda x: F.conv_transpose2d(x, weights(4, 2, 3, 3), stride=2),
    "reflected": lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), weights(5, 4, 3, 3)),
    "upsampled": lambda x: F.interpolate(x, scale_factor=2.0),
    "indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "uneven average": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "weights from the map": lambda x: torch.einsum("nchw,nc->nhw", x, x.amax((2, 3))),
    "written in part": lambda x: _written(x * 1),
    "sorted": lambda x: x.sort(2).values,
}


def _written(x: Tensor) -> Tensor:
    x[:, 1] = 0
    x[:, 0].mul_(2)
    return x


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", LOCAL)
def test_local_operators(name: str) -> None:
    out, mode, expected = run(LOCAL[name])
    assert mode.spread == ""
    torch.testing.assert_close(out, expected, rtol=1e-6 if name == "other precision" else 1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SPREAD)
def test_other_operators_get_whole_maps(name: str) -> None:
    out, mode, expected = run(SPREAD[name])
    assert mode.spread != ""
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("most", [0.0, 0.2, 0.5])
def test_large_boxes_become_whole_maps(most: float) -> None:
    def body(x: Tensor) -> Tensor:
        y = F.relu(F.conv2d(x, weights(4, 4, 3, 3), padding=1))
        y = F.max_pool2d(y + x, 2)
        y += F.conv2d(y, weights(4, 4, 3, 3), padding=1)
        return F.adaptive_avg_pool2d(y, 1)

    out, mode, expected = run(body, most)
    assert mode.spread == ""
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_writes_are_seen_through_every_name() -> None:
    def body(x: Tensor) -> Tensor:
        y = F.conv2d(x, weights(4, 4, 3, 3), padding=1)
        same = F.dropout(y, training=False)
        kept = y.clone()
        y.relu_()
        same += 1
        return y + same * 2 + kept * 3

    out, mode, expected = run(body)
    assert mode.spread == ""
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_a_write_into_a_whole_map() -> None:
    def body(x: Tensor) -> Tensor:
        total = torch.zeros(5, CHANNELS, HEIGHT, WIDTH, dtype=x.dtype, device=x.device)
        total += x
        total[:, 1:] = x[:, 1:]
        y = x * 1
        y.view(5, -1).mul_(2)
        y += x
        return total + y.relu_()

    out, _, expected = run(body)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_values_decide_the_way() -> None:
    def body(x: Tensor) -> Tensor:
        if x.mean((2, 3)).sum() > 1e9:
            return x.sum((2, 3))
        return F.conv2d(x, weights(4, 4, 3, 3), padding=int(x.shape[1] == 4)).sum((2, 3))

    out, mode, expected = run(body)
    assert mode.local == 1
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_weights_of_each_pack() -> None:
    """Maps of the unchanged example are remembered by what made them: other weights make other maps."""
    map_, whole = increment()
    for seed in range(3):
        weight = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        mode = IncrementMode(1.0)
        with torch.inference_mode():
            stand_in = mode.begin(map_)
            with mode:
                out = mode.end(F.conv2d(F.conv2d(stand_in, weight, padding=1), weight, padding=1).sum((2, 3)))
            expected = F.conv2d(F.conv2d(whole, weight, padding=1), weight, padding=1).sum((2, 3))
        assert isinstance(out, Tensor)
        torch.testing.assert_close(out, expected)


def _elsewhere(x: Tensor) -> Tensor:
    """Operators in another thread are not seen."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.relu, x).result()


@pytest.mark.parametrize("body", [_elsewhere, lambda x: x.chunk(2, 1)[0].relu_()], ids=["hidden", "view"])
def test_what_cannot_be_followed_is_refused(body: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotLocalError):
        run(body)


def test_form_is_told_without_data() -> None:
    def body(x: Tensor) -> Tensor:
        assert x.shape == (5, CHANNELS, HEIGHT, WIDTH)
        assert (len(x), x.dim(), x.size(1), x.dtype) == (5, 4, CHANNELS, torch.float64)
        assert x.device.type == "cpu"
        assert not x.is_cuda
        return x + torch.ones(x.shape[1], 1, 1, device=x.device, dtype=x.dtype)

    run(body)


def test_trimmed_maps_come_back() -> None:
    map_, whole = increment()
    for _ in range(2):
        mode = IncrementMode(1.0)
        with torch.inference_mode():
            stand_in = mode.begin(map_)
            with mode:
                out = mode.end(nn.Sequential(nn.ReLU(), nn.AvgPool2d(3, 1, 1), nn.Tanh())(stand_in))
        map_.base.trim()
        assert isinstance(out, Tensor)
        torch.testing.assert_close(out, F.avg_pool2d(whole.relu(), 3, 1, 1).tanh())


@pytest.mark.parametrize(
    "window", [Window(3, 2, 1, 1), Window(2, 3, 1, 1), Window(3, 1, 2, 2, 2), Window(1, 2), Window(3, 2, 0, 0, 1, True)]
)
def test_a_span_holds_all_that_changes(window: Window) -> None:
    size = 12
    count = window.results(size)
    cells = np.arange(count)[:, None] * window.stride - window.before + np.arange(window.kernel) * window.dilation
    for low in range(size):
        for high in range(low + 1, size + 1):
            seen = Span(places(low), places(high), size).seen(window)
            changes = np.flatnonzero(((cells >= low) & (cells < high)).any(1))
            assert seen.size == count
            assert all(seen.low[0] <= c < seen.high[0] for c in changes)
            tight = window.kernel >= window.stride and window.dilation == 1
            assert not tight or seen.high[0] - seen.low[0] <= len(changes)
            needs = window.needs(seen)
            assert needs.begin[0] <= cells[seen.start[0]][0]
            assert cells[seen.start[0] + seen.length - 1][-1] < needs.begin[0] + needs.length
