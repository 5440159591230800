"""Random methods: seeds decide everything, and nobody else's stream is touched."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from captum.errors import InputError
from tests.cases import CASES, Case, keeping
from tests.subjects import subject


def streams() -> tuple[object, ...]:
    """The state of every global generator."""
    kind, keys, position, *rest = np.random.get_state()  # noqa: NPY002 - the stream the methods read
    return torch.get_rng_state().tolist(), kind, keys.tolist(), position, rest, random.getstate()


def call(case: Case, **more: object) -> torch.Tensor:
    """Call without seeding the global streams."""
    whole = subject(case.home)
    return case.build(whole).attribute(whole.inputs, **{**case.arguments(whole), **more})


@pytest.mark.parametrize("case", keeping("seeds", random=True))
def test_the_same_seed_gives_the_same_values(case: Case) -> None:
    first, again, other = call(case, seed=5), call(case, seed=5), call(case, seed=6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("case", keeping("seeds", random=True))
def test_a_seed_spares_the_global_streams(case: Case) -> None:
    before = streams()
    call(case, seed=5)
    call(case, generator=torch.Generator().manual_seed(3))
    assert streams() == before


@pytest.mark.parametrize("case", keeping("seeds", random=True))
def test_a_generator_is_used_and_moves_on(case: Case) -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = call(case, generator=generator), call(case, generator=generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, call(case, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("case", keeping("seeds", random=True))
def test_without_a_seed_the_global_streams_decide(case: Case) -> None:
    whole = subject(case.home)
    assert torch.equal(case.run(whole), case.run(whole))
    assert not torch.equal(call(case), call(case))


@pytest.mark.parametrize("case", keeping("seeds", random=False, attends=None))
def test_a_method_without_chance_draws_nothing(case: Case) -> None:
    before = streams()
    first, again = call(case), call(case)
    assert torch.equal(first, again)
    assert streams() == before


@pytest.mark.parametrize("case", keeping("seeds", random=True))
def test_a_seed_and_a_generator_together_are_refused(case: Case) -> None:
    with pytest.raises(ValueError, match=r"seed|generator"):
        call(case, seed=1, generator=torch.Generator())


@pytest.mark.parametrize("case", keeping("seeds", random=True))
@pytest.mark.parametrize("seed", ["1", 1.5, 2**70])
def test_a_seed_is_a_whole_number(case: Case, seed: object) -> None:
    with pytest.raises(InputError, match="seed"):
        call(case, seed=seed)


def test_the_table_says_which_methods_draw() -> None:
    names = {case.cls for case in CASES.values() if case.random and case.place != "input"}
    assert {"LayerGradientShap", "NeuronGradientShap"} <= names
