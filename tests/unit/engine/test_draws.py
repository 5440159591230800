"""Random draws: the published streams, pieces that equal the whole, generators that spare the global ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from captum._engine import draws
from captum._engine.draws import Source, check_stdevs
from captum.errors import InputError


@pytest.fixture
def default(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """Another default dtype for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@pytest.mark.parametrize(("rows", "width"), [(64, 7), (50, 16), (97, 33), (33, 5), (128, 1)])
@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize("default", [torch.float32, torch.float64], indirect=True)
def test_pieces_equal_the_whole(
    monkeypatch: pytest.MonkeyPatch, rows: int, width: int, seeded: bool, default: torch.dtype
) -> None:
    like = torch.empty(2, width, dtype=default)
    generator = torch.Generator().manual_seed(3) if seeded else None

    def source() -> Source:
        torch.manual_seed(3)
        return Source(torch.Generator().manual_seed(3)) if generator is not None else Source()

    whole = source().normal(rows, like, 0.5).take(0, rows)
    after = torch.randn(3)
    monkeypatch.setattr(draws, "WHOLE", 4 * 16 * width)
    late = source()
    noise = late.normal(rows, like, 0.5)
    stops = [*range(3, rows, 11), rows]
    pieces = torch.cat([noise.take(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)])
    assert torch.equal(pieces, whole)
    assert torch.equal(torch.randn(3), after)


def test_a_chunk_may_be_asked_for_again_in_smaller_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    like = torch.empty(1, 4)
    torch.manual_seed(0)
    whole = Source().normal(100, like, 1.0).take(0, 100)
    monkeypatch.setattr(draws, "WHOLE", 4 * 16 * 4)
    torch.manual_seed(0)
    noise = Source().normal(100, like, 1.0)
    noise.take(0, 10)
    noise.take(10, 70)
    assert torch.equal(noise.take(10, 40), whole[10:40])
    assert torch.equal(noise.take(40, 100), whole[40:])


@pytest.mark.parametrize("default", [torch.float32, torch.float64], indirect=True)
def test_the_global_streams_are_those_of_the_published_examples(default: torch.dtype) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # the stream under test
    source = Source()
    picked, noise, nodes = source.choice(7, 6), source.normal(6, torch.empty(2, 30), 0.2), source.uniform(6)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # the stream under test
    assert picked.tolist() == np.random.choice(7, 6).tolist()  # noqa: NPY002  # the stream under test
    torch.testing.assert_close(noise.take(0, 6), torch.normal(0, torch.full((6, 30), 0.2, dtype=default)))
    assert nodes.tolist() == np.random.uniform(0, 1, 6).tolist()  # noqa: NPY002  # the stream under test


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], indirect=True)
def test_a_generator_gives_the_same_noise_whatever_the_default_dtype(default: torch.dtype) -> None:
    def draw() -> torch.Tensor:
        return Source(seed=5).normal(3, torch.empty(1, 30, dtype=torch.float32), 1.0).take(0, 3)

    noise = draw()
    torch.set_default_dtype(torch.float32)
    assert torch.equal(noise, draw())


@pytest.mark.parametrize("stdevs", [1, (0.1, 1), "0.1", (0.1,), -0.5, (0.1, float("nan"))])
def test_standard_deviations_that_cannot_be(stdevs: object) -> None:
    with pytest.raises(InputError, match="stdevs"):
        check_stdevs(stdevs, 2)
