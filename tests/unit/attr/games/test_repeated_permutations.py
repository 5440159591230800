"""Feature permutation over several permutations: its mean, its standard errors, and what both are taken from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from captum import attr
from captum.attr.games.fills import Permuted
from captum.attr.games.stopping import parse_generator
from captum.errors import InputError
from tests.subjects import drawn

X = drawn(8, 3, seed=0, dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def bent(x: Tensor) -> Tensor:
    return torch.tanh(x @ WEIGHTS)


def expected() -> Tensor:
    """The mean over all permutations but the identity, by every row's chance to be a row's stand-in."""
    rows = len(X)
    stay = (math.factorial(rows - 1) - 1) / (math.factorial(rows) - 1)
    chances = torch.full((rows, rows), (1 - stay) / (rows - 1), dtype=torch.float64)
    chances.fill_diagonal_(stay)
    out = torch.empty_like(X)
    for feature in range(3):
        moved = X[:, None].repeat(1, rows, 1)
        moved[:, :, feature] = X[:, feature]
        out[:, feature] = bent(X) - (chances * bent(moved.reshape(-1, 3)).reshape(rows, rows)).sum(1)
    return out


def test_the_mean_of_calls_with_one_permutation_each() -> None:
    torch.manual_seed(3)
    calls = torch.stack([attr.FeaturePermutation(bent).attribute(X) for _ in range(5)])
    torch.manual_seed(3)
    values, errors = attr.FeaturePermutation(bent).attribute(X, n_samples=5, return_std_error=True)
    torch.testing.assert_close(values, calls.mean(0))
    quantile = 2.776445 / 1.959964  # Student's, four degrees of freedom
    torch.testing.assert_close(errors, calls.std(0) / 5**0.5 * quantile, rtol=4e-3, atol=1e-12)
    one, unknown = attr.FeaturePermutation(bent).attribute(X, seed=0, return_std_error=True)
    torch.testing.assert_close(one, attr.FeaturePermutation(bent).attribute(X, seed=0))
    assert bool(unknown.isinf().all())


@pytest.mark.parametrize(("summed", "count"), [(True, 20), pytest.param(False, 60, marks=pytest.mark.slow)])
def test_intervals_cover(summed: bool, count: int) -> None:
    """Of 200 seeded runs at 95 %, at least 93 % of the values lie within 1.96 standard errors."""
    exact = expected().sum(0, keepdim=True) if summed else expected()
    method = attr.FeaturePermutation(lambda x: bent(x).sum() if summed else bent(x))
    inside = 0.0
    for seed in range(200):
        values, errors = method.attribute(X, n_samples=count, seed=seed, return_std_error=True)
        inside += float(((values - exact).abs() <= 1.96 * errors).double().mean())
    assert inside / 200 >= 0.93


def test_a_number_per_batch_and_chunks() -> None:
    method = attr.FeaturePermutation(lambda x: bent(x).square().mean())
    values, errors = method.attribute(X, n_samples=6, seed=1, return_std_error=True)
    assert values.shape == errors.shape == (1, 3)
    calls = [method.attribute(X, generator=g) for g in [torch.Generator().manual_seed(1)] for _ in range(6)]
    torch.testing.assert_close(values, torch.stack(calls).mean(0))
    apart = attr.FeaturePermutation(bent).attribute(X, perturbations_per_eval=2, n_samples=6, seed=1)
    torch.testing.assert_close(apart, attr.FeaturePermutation(bent).attribute(X, n_samples=np.int64(6), seed=1))


def test_a_layer() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    found = attr.LayerFeaturePermutation(net, net[1]).attribute(X, n_samples=3, seed=2, return_std_error=True)
    with torch.no_grad():
        inner = net[1](net[0](X))
    same = attr.FeaturePermutation(net[2]).attribute(inner, n_samples=3, seed=2, return_std_error=True)
    torch.testing.assert_close(found, same)


def test_over_a_loader() -> None:
    """Rounds permute anew, batches alone, and what is passed over twice is the same."""
    method = attr.DataLoaderAttribution(attr.FeaturePermutation(bent))
    options = {"reduce": lambda seen, out, _: out.sum() + (0 if seen is None else seen), "seed": 4}
    values, errors = (v[0] for v in method.attribute(X.split(8), **options, n_samples=30, return_std_error=True))
    assert values.shape == (1, 3)
    assert bool(((values - expected().sum(0)).abs() <= 4 * errors).all())
    assert bool((errors > 0).all())
    paired = method.attribute(X.split(8), **options, n_samples=30, perturbations_per_pass=3)
    torch.testing.assert_close(paired[0], values)
    single, unknown = (v[0] for v in method.attribute(X.split(8), **options, return_std_error=True))
    torch.testing.assert_close(single, method.attribute(X.split(8), **options)[0])
    assert bool(unknown.isinf().all())


@pytest.mark.parametrize("count", [0, -1, True, 2.5, "auto"])
def test_what_is_no_number_of_permutations(count: object) -> None:
    with pytest.raises(InputError, match="n_samples"):
        attr.FeaturePermutation(bent).attribute(X, n_samples=count)


class Away:
    """Stands for a generator of another device."""

    device = torch.device("cuda")


def test_a_generator_of_another_device_seeds_one_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def randint(high: int, size: tuple[int, ...], generator: object, device: torch.device) -> Tensor:
        assert device.type == "cuda"
        assert isinstance(generator, Away)
        return torch.tensor(17)

    monkeypatch.setattr(torch, "randint", randint)
    away: object = Away()
    for made in (parse_generator(away, None), Permuted(away).generator):  # pyright: ignore[reportArgumentType]
        assert made is not None
        assert made.device.type == "cpu"
        assert made.initial_seed() == 17
