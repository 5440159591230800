"""Which methods can be played over a loader, and that they do there what they do on one batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from captum import attr
from captum.errors import InputError
from captum.linear import ClosedFormLinearRegression
from tests.oracles.loops import chain
from tests.subjects import drawn

NET = chain()
X = drawn(7, 3, seed=4, dtype=torch.float64)
LOADER = DataLoader(TensorDataset(X), batch_size=3)


def score(x: Tensor) -> Tensor:
    return NET(x)[:, 0]


def total(accum, output: Tensor, _batch):
    return output.sum() + (0 if accum is None else accum)


@pytest.mark.parametrize("per_pass", [1, 4])
def test_occlusion_is_that_of_each_row(per_pass: int) -> None:
    found = attr.DataLoaderAttribution(attr.Occlusion(score)).attribute(
        LOADER, sliding_window_shapes=(2,), baselines=0.5, perturbations_per_pass=per_pass
    )
    torch.testing.assert_close(found[0], attr.Occlusion(score).attribute(X, (2,), baselines=0.5))
    summed = attr.DataLoaderAttribution(attr.Occlusion(score)).attribute(
        LOADER, sliding_window_shapes=(2,), strides=1, baselines=0.5, reduce=total
    )
    torch.testing.assert_close(summed[0][0], found[0].sum(0))


def test_owen_values_are_those_of_each_row() -> None:
    over = attr.DataLoaderAttribution(attr.OwenValues(score))
    found = over.attribute(LOADER, groups=[[0, 2], 1])[0]
    torch.testing.assert_close(found, attr.OwenValues(score).attribute(X, groups=[[0, 2], 1]))
    sampled = over.attribute(LOADER, groups=[[0, 2], 1], n_samples=4, seed=0)[0]
    torch.testing.assert_close(sampled.sum(1), (score(X) - score(torch.zeros_like(X))).detach())


class Interval(ClosedFormLinearRegression):
    """Coefficients, and twice those."""

    def representation(self):
        found = super().representation()
        return found, 2 * found


@pytest.mark.parametrize("per_pass", [1, 4])
def test_lime_of_a_sum_is_that_of_the_data_as_one_example(per_pass: int) -> None:
    lime = attr.Lime(lambda x: score(x).sum().float(), ClosedFormLinearRegression())
    want = lime.attribute(X, baselines=0.5, n_samples=30, seed=2)
    options = {"baselines": 0.5, "reduce": total, "n_samples": 30, "seed": 2, "perturbations_per_pass": per_pass}
    over = attr.DataLoaderAttribution(attr.Lime(score, ClosedFormLinearRegression()))
    torch.testing.assert_close(over.attribute(LOADER, **options)[0].float(), want.float(), atol=1e-5, rtol=1e-4)
    pair = attr.DataLoaderAttribution(attr.Lime(score, Interval())).attribute(LOADER, **options)
    torch.testing.assert_close(pair[1][0], 2 * pair[0][0])


def test_the_users_permutation_is_used() -> None:
    def reverse(x: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, x.flip(0), x)

    found = attr.DataLoaderAttribution(attr.FeaturePermutation(score, reverse)).attribute(LOADER)[0]
    want = torch.cat([attr.FeaturePermutation(score, reverse).attribute(part) for part in X.split(3)[:2]])
    torch.testing.assert_close(found[:6], want)


class Renamed(attr.FeatureAblation):
    """Only a name."""


class Doubled(attr.FeatureAblation):
    def attribute(self, *args, **kwargs):
        return 2 * super().attribute(*args, **kwargs)


class Weighed(attr.KernelShap):
    def kernel_shap_similarity_kernel(self, *args, **kwargs):
        return torch.ones(1)


def test_a_subclass_that_changes_nothing_is_played() -> None:
    found = attr.DataLoaderAttribution(Renamed(score)).attribute(LOADER)
    torch.testing.assert_close(found[0], attr.FeatureAblation(score).attribute(X))


LAYER = nn.Linear(3, 2)
REFUSED = {
    "replaces FeatureAblation.attribute": Doubled(score),
    "values of a layer": attr.LayerFeatureAblation(LAYER, LAYER),
    "reads values of a layer": attr.NeuronFeatureAblation(LAYER, LAYER),
    "user's functions": attr.Lime(score, ClosedFormLinearRegression(), similarity_func=lambda *_, **__: 1.0),
    "samples or weights": Weighed(score),
    "functions of a single input": attr.LimeBase(score, ClosedFormLinearRegression(), print, print, False, None, print),
    "does not score coalitions": attr.Saliency(score),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_played_says_why(reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        attr.DataLoaderAttribution(REFUSED[reason])


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        (attr.Occlusion(score), {}, "needs sliding_window_shapes"),
        (attr.FeatureAblation(score), {"sliding_window_shapes": (1,)}, "are for Occlusion"),
        (attr.OwenValues(score), {}, "needs groups"),
        (attr.FeatureAblation(score), {"groups": [0, 1, 2]}, "are for OwenValues"),
        (attr.Lime(score, ClosedFormLinearRegression()), {"n_samples": "auto"}, "number of samples"),
    ],
)
def test_options_of_other_methods_are_refused(method, options, match: str) -> None:
    with pytest.raises(InputError, match=match):
        attr.DataLoaderAttribution(method).attribute(LOADER, **options)
