"""Drawn baselines."""

from __future__ import annotations

import copy
import pickle
import random
from collections import Counter

import pytest
import torch

from captum.attr import ProductBaselines
from captum.errors import BaselineError, InputError, InputTypeError

SLOTS = [[1, 2, 3], ["a", "b"], [0.5]]


def test_without_seed_the_global_stream_is_used_slot_by_slot() -> None:
    draw = ProductBaselines(SLOTS)
    random.seed(7)
    drawn = [draw(), draw.sample()]
    random.seed(7)
    assert drawn == [[random.choice(slot) for slot in SLOTS] for _ in range(2)]


def test_names_and_tuples_of_names() -> None:
    pairs = [("Ann", "her"), ("Bob", "his")]
    draw = ProductBaselines({"city": ["Rome"], ("name", "pronoun"): pairs})
    for _ in range(10):
        drawn = draw()
        assert list(drawn) == ["city", "name", "pronoun"]
        assert (drawn["name"], drawn["pronoun"]) in pairs


@pytest.mark.parametrize("how", ["seed", "generator"])
def test_own_stream_repeats_and_leaves_the_global_ones_alone(how: str) -> None:
    def fresh() -> ProductBaselines:
        source = {"seed": 3} if how == "seed" else {"generator": torch.Generator().manual_seed(3)}
        return ProductBaselines(SLOTS, **source)

    states = random.getstate(), torch.get_rng_state()
    first, second = fresh(), fresh()
    assert [first() for _ in range(20)] == [second() for _ in range(20)]
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_draws_are_uniform() -> None:
    draw = ProductBaselines([[0, 1, 2]], seed=0)
    counts = Counter(draw()[0] for _ in range(3000))
    assert all(abs(counts[value] - 1000) < 4 * (3000 * 2 / 9) ** 0.5 for value in range(3))


def test_no_slots_give_nothing() -> None:
    assert ProductBaselines([])() == []


@pytest.mark.parametrize(("values", "error", "text"), [
    (3, InputTypeError, "list of lists"),
    ("abc", InputTypeError, "list of lists"),
    ([1, 2], InputTypeError, "slot 0"),
    ([[1], []], BaselineError, "slot 1"),
    ({("a", "b"): [(1, 2, 3)]}, BaselineError, "tuples of 2"),
    ({("a", "b"): [5]}, BaselineError, "got a int"),
])  # fmt: skip
def test_values_that_do_not_fit(values: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ProductBaselines(values)


def test_seed_and_generator_exclude_each_other() -> None:
    with pytest.raises(InputError, match="got both"):
        ProductBaselines(SLOTS, seed=1, generator=torch.Generator())


def test_copies_draw_the_same() -> None:
    draw = ProductBaselines(SLOTS, seed=5)
    other = copy.deepcopy(ProductBaselines(SLOTS, seed=5))
    assert [draw() for _ in range(9)] == [other() for _ in range(9)]
    random.seed(1)
    first = ProductBaselines(SLOTS)()
    random.seed(1)
    assert pickle.loads(pickle.dumps(ProductBaselines(SLOTS)))() == first
