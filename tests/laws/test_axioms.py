"""The axioms of attribution, put to every algorithm on small smooth functions in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.cases import CASES, LAWS, Case, keeping
from tests.models import Mlp, seeded
from tests.subjects import drawn, smooth_body, staged


def close(got: object, want: object, tolerance: float = 1e-9) -> None:
    """Compare two trees of tensors, dtype included."""
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


class Dummy(nn.Module):
    """Reads all features but the third."""

    def __init__(self) -> None:
        super().__init__()
        self.body = smooth_body(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x[:, [0, 1, 3]])


class Symmetric(nn.Module):
    """Reads the first two features as their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.body = smooth_body(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(torch.stack([x[:, 0] + x[:, 1], x[:, 2], x[:, 3]], 1))


class Combined(nn.Module):
    """Three outputs f, g and 2f - 3g."""

    def __init__(self) -> None:
        super().__init__()
        self.body = smooth_body(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        f, g = self.body(x).unbind(1)
        return torch.stack([f, g, 2 * f - 3 * g], 1)


class Rewritten(nn.Module):
    """The function of an ``Mlp`` with softplus, from other operators."""

    def __init__(self, mlp: Mlp) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.mlp.hidden1, self.mlp.hidden2):
            x = torch.logaddexp(torch.einsum("bi,oi->bo", x, layer.weight) + layer.bias, x.new_zeros(()))
        return x @ self.mlp.head.weight.t() + self.mlp.head.bias


def of(case: Case, body: nn.Module, target: int = 0, *, spread: float = 1.0, features: int = 4) -> object:
    """A staged subject whose inputs, baseline and baseline distribution are fixed."""
    x = drawn(3, features, dtype=torch.float64)
    x[:, 1] = x[:, 0]
    start = drawn(1, features, seed=2, dtype=torch.float64) * spread
    cloud = drawn(4, features, seed=3, dtype=torch.float64) * spread
    for reference in (start, cloud):
        reference[:, 1] = reference[:, 0]
    place = "neuron" if case.place == "neuron" else "input"
    if case.spatial:
        body = nn.Sequential(nn.Flatten(), body)
        x, start, cloud = (each.reshape(-1, features, 1, 1) for each in (x, start, cloud))
    return staged(body, x, target, place=place, baselines=start, cloud=cloud)


def test_every_broken_law_is_a_law_and_has_a_reason() -> None:
    for case in CASES.values():
        for law, reason in case.breaks.items():
            assert law in LAWS, f"{case.name} breaks {law!r}, which is no law"
            assert len(reason.split()) > 2, f"{case.name} must say why it breaks {law!r}"


@pytest.mark.parametrize("case", keeping("completeness"))
def test_values_add_up_to_the_change_of_the_score(case: Case) -> None:
    subject = of(case, smooth_body())
    values = case.run(subject, **case.quick(300))
    with torch.no_grad():
        start = subject.model(subject.cloud)[:, 0].mean() if case.baselines == "cloud" else None
        change = subject.model(subject.inputs)[:, 0] - (
            subject.model(subject.baselines)[:, 0] if start is None else start
        )
    assert change.abs().min() > 5e-3
    close(values.flatten(1).sum(1), change, case.tolerance)


@pytest.mark.parametrize("case", keeping("dummy", spatial=False))
def test_what_is_not_read_gets_zero(case: Case) -> None:
    """Exactly zero; sampled Owen values pair scores of two places in a matrix product, which may round differently."""
    values = case.run(of(case, Dummy()))
    assert values[:, 2].abs().max() <= (1e-15 if case.name == "OwenValues(sampled)" else 0.0)
    assert (values[:, [0, 1, 3]] != 0).all()


@pytest.mark.parametrize("case", keeping("symmetry"))
def test_twins_get_the_same(case: Case) -> None:
    values = case.run(of(case, Symmetric()))
    close(values[:, 0], values[:, 1], 1e-11)
    assert (values[:, 0] - values[:, 2]).abs().max() > 1e-3


@pytest.mark.parametrize("case", keeping("linearity"))
def test_values_are_linear_in_the_score(case: Case) -> None:
    body = Combined()
    f, g, both = (case.run(of(case, body, target)) for target in range(3))
    close(both, 2 * f - 3 * g)
    assert (f - g).abs().max() > 1e-3


@pytest.mark.parametrize("case", keeping("invariance"))
def test_only_the_function_counts(case: Case) -> None:
    mlp = seeded(lambda: Mlp(4, 6, 3, nn.Softplus)).double()
    close(case.run(of(case, Rewritten(mlp))), case.run(of(case, mlp)), 1e-8)


_TWINS = {
    "LayerGradientXActivation": "InputXGradient", "LayerIntegratedGradients": "IntegratedGradients",
    "LayerGradientShap": "GradientShap", "NeuronGradient": "Saliency(signed)",
    "NeuronIntegratedGradients": "IntegratedGradients", "NeuronGradientShap": "GradientShap",
    "NeuronConductance": "IntegratedGradients",
}  # fmt: skip


@pytest.mark.parametrize("name", list(_TWINS))
def test_at_an_identity_a_layer_method_is_the_input_method(name: str) -> None:
    """Contract 21.5, 21.7: the three families are one, moved to a place."""
    case, twin = CASES[name], CASES[_TWINS[name]]
    more = {"method": "gausslegendre", "n_steps": 50} if name == "NeuronConductance" else {}
    close(case.run(of(case, smooth_body(), 1), **more), twin.run(of(twin, smooth_body(), 1)))
