"""Subclasses of Lime and KernelShap that other libraries write: what they override is what happens."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from captum import attr
from captum.attr.games.lime import construct_feature_mask, default_perturb_func
from captum.errors import InputError, OutputError
from captum.linear import ClosedFormLinearRegression, SkLearnLinearRegression
from captum.linear.model import Model
from tests.oracles.loops import chain
from tests.subjects import drawn

NET = chain()
X = drawn(2, 3, seed=4)
DEVICE = torch.device("cpu")


def score(x: Tensor) -> Tensor:
    return NET(x.double())[:, 0].float()


class Interval(ClosedFormLinearRegression):
    """A model whose representation is its coefficients and how far they may be off."""

    def representation(self):
        found = super().representation()
        return found, found.abs().numpy() / 2


class Mean(Model):
    """A model with one number, whatever the features."""

    def fit(self, train_data: DataLoader, **_: object):
        self.value = next(iter(train_data))[1].mean()
        return {}

    def representation(self) -> Tensor:
        return self.value

    def __call__(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x))


def test_several_parts_of_a_representation_are_several_maps() -> None:
    torch.manual_seed(0)
    plain = attr.Lime(score, ClosedFormLinearRegression()).attribute(X, n_samples=20)
    torch.manual_seed(0)
    values, spread = attr.Lime(score, Interval()).attribute(X, n_samples=20)
    torch.testing.assert_close(values, plain)
    torch.testing.assert_close(spread, plain.abs() / 2)
    pair = (X[:, :1], X[:, 1:])
    torch.manual_seed(0)
    both = attr.Lime(lambda a, b: score(torch.cat([a, b], 1)), Interval()).attribute(pair, n_samples=20)
    assert [[tuple(t.shape) for t in part] for part in both] == [[(2, 1), (2, 2)]] * 2
    torch.testing.assert_close(torch.cat(both[1], 1), spread)
    torch.manual_seed(0)
    matrices = attr.Lime(score, Interval()).attribute(X, n_samples=20, return_input_shape=False)
    torch.testing.assert_close(matrices, (values, spread))


def test_a_representation_without_a_number_per_feature_is_refused_or_returned_as_it_is() -> None:
    lime = attr.Lime(score, Mean())
    with pytest.raises(OutputError, match="each of the 3 features"):
        lime.attribute(X)
    assert lime.attribute(X, return_input_shape=False).shape == (2, 1)


class Even(attr.KernelShap):
    """All coalitions of even size, every one as important."""

    def kernel_shap_perturb_generator(self, original_inp, **kwargs):
        assert original_inp.shape[0] == 1
        while True:
            yield torch.tensor([[1, 1, 0]])
            yield torch.tensor([[1, 0, 1]])
            yield torch.tensor([[0, 1, 1]])
            yield torch.tensor([[0, 0, 0]])

    def kernel_shap_similarity_kernel(self, _, __, interpretable_sample, **kwargs):
        return torch.tensor([1.0])


class Halved(attr.KernelShap):
    """Full coalitions count for next to nothing."""

    def kernel_shap_similarity_kernel(self, _, __, interpretable_sample, **kwargs):
        full = int(interpretable_sample.sum()) == kwargs["num_interp_features"]
        return torch.tensor([1e-9 if full else 1.0])


def gain(x: Tensor) -> Tensor:
    return x.sum(1) + 5 * (x > 0).all(1)


def test_samples_of_a_subclass_are_those_of_the_fit() -> None:
    found = Even(gain).attribute(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), n_samples=8)
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))


@pytest.mark.parametrize("how", ["subclass", "method", "function"])
def test_weights_of_a_subclass_or_an_object_are_those_of_the_fit(how: str) -> None:
    method = Halved(gain) if how == "subclass" else attr.KernelShap(gain)
    if how == "method":
        method.kernel_shap_similarity_kernel = lambda *a, **k: Halved.kernel_shap_similarity_kernel(method, *a, **k)
    if how == "function":
        method.similarity_func = lambda *a, **k: Halved.kernel_shap_similarity_kernel(method, *a, **k)
    x = torch.tensor([[1.0, 2.0, 3.0]])
    torch.manual_seed(1)
    torch.testing.assert_close(method.attribute(x, n_samples=60), x, atol=1e-3, rtol=0)
    torch.testing.assert_close(attr.KernelShap(gain).attribute(x, n_samples=60), x + 5 / 3)


def test_a_model_of_its_own_is_fitted_to_the_published_samples() -> None:
    method = attr.KernelShap(score)
    method.interpretable_model = SkLearnLinearRegression()
    torch.manual_seed(3)
    found = method.attribute(X, n_samples=12)
    torch.manual_seed(3)
    torch.testing.assert_close(
        found, attr.KernelShap(score).attribute(X, n_samples=12, sampling="upstream"), atol=1e-4, rtol=1e-4
    )
    method.interpretable_model = Interval()
    assert [tuple(part.shape) for part in method.attribute(X, n_samples=12)] == [(2, 3), (2, 3)]


def test_one_feature_does_not_stop_the_published_samples() -> None:
    method = attr.KernelShap(lambda x: 3 * x[:, 0])
    method.interpretable_model = ClosedFormLinearRegression()
    torch.testing.assert_close(method.attribute(torch.tensor([[2.0]]), n_samples=6), torch.tensor([[6.0]]))


@pytest.mark.parametrize(
    "options", [{"seed": 0}, {"n_samples": "auto"}, {"sampling": "kernel"}, {"return_std_error": True}, {"tol": 0.1}]
)
def test_options_of_samples_that_a_subclass_replaced_are_refused(options) -> None:
    with pytest.raises(InputError, match="its own samples"):
        Even(score).attribute(X, **options)


class Hooked(attr.Lime):
    """A subclass that runs the loop itself and writes the coefficients back, as libraries do."""

    def _attribute_kwargs(self, inputs, baselines=None, target=None, **kwargs):
        mask, players = construct_feature_mask(kwargs.pop("feature_mask"), (inputs,))
        options = {k: kwargs[k] for k in ("n_samples", "perturbations_per_eval", "show_progress")}
        maps = []
        for row in range(len(inputs)):
            coefs = attr.LimeBase.attribute.__wrapped__(
                self, inputs[row : row + 1], target, baselines=0, feature_mask=mask[0], num_interp_features=players,
                **options,
            )  # fmt: skip
            maps.append(self._convert_output_shape((inputs[row : row + 1],), mask, coefs, players, False))
        return torch.cat(maps)


def test_the_loop_of_a_subclass_is_run_and_can_use_the_pieces() -> None:
    mask = torch.tensor([[0, 0, 1]])
    torch.manual_seed(5)
    found = Hooked(score, ClosedFormLinearRegression()).attribute(X, feature_mask=mask, n_samples=10)
    torch.manual_seed(5)
    plain = attr.Lime(score, ClosedFormLinearRegression(), perturb_func=partial(default_perturb_func))
    torch.testing.assert_close(found, plain.attribute(X, feature_mask=mask, n_samples=10))


BATCHES = {
    "rows": (lambda x: x.sum(1), None, None, [3.0, 6.0]),
    "column": (lambda x: x.sum(1, keepdim=True), None, None, [3.0, 6.0]),
    "target": (lambda x: x, torch.tensor([1, 2]), None, [1.0, 2.0]),
    "constants": (lambda x, a: (x * a).sum(1), None, (torch.tensor([[1.0], [2.0]]),), [3.0, 12.0]),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_loop_written_outside_scores_lists_of_inputs(name: str) -> None:
    function, target, constants, expected = BATCHES[name]
    method = attr.Lime(function, ClosedFormLinearRegression())
    several = [torch.ones(1, 3), 2 * torch.ones(1, 3)]
    torch.testing.assert_close(
        method._evaluate_batch(several, target, constants, DEVICE), torch.tensor(expected), rtol=0, atol=0
    )


def test_a_loop_written_outside_takes_tuples_and_numbers_and_counts_outputs() -> None:
    pairs = [(torch.ones(1, 3), torch.ones(1, 2))] * 2
    lime = attr.Lime(lambda a, b: a.sum(1) + b.sum(1), ClosedFormLinearRegression())
    assert lime._evaluate_batch(pairs, None, None, DEVICE).tolist() == [5.0, 5.0]
    number = attr.Lime(lambda x: float(x.sum()), ClosedFormLinearRegression())
    assert number._evaluate_batch([torch.ones(2, 3)], None, None, DEVICE).tolist() == [6.0]
    for function in (lambda x: x, lambda x: x.sum()):
        with pytest.raises(OutputError, match="one output per perturbed input"):
            attr.Lime(function, Mean())._evaluate_batch([X[:1], X[1:]], None, None, DEVICE)
