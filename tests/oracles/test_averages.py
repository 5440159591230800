"""GradientShap at every place and NoiseTunnel, from the published order of random draws (contract 16)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from captum import attr
from tests.oracles.loops import chain, gradient, rows
from tests.subjects import drawn

NET = chain().float()
X, CLOUD = drawn(2, 3, seed=4), drawn(5, 3, seed=6)
SAMPLES, STDEV, TARGET = 4, 0.2, 1


def close(got: Tensor, want: Tensor, tolerance: float = 1e-5) -> None:
    """Equal up to float32 rounding."""
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def seed() -> None:
    """Put both global streams to a known place."""
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002 - the stream the methods read


def draws(stdev: float = STDEV) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy inputs, baselines and mixing weights, example-major."""
    seed()
    picked = np.random.choice(len(CLOUD), SAMPLES * len(X))  # noqa: NPY002
    many = X.repeat_interleave(SAMPLES, 0)
    noisy = many + torch.normal(0, torch.full_like(many, stdev))
    mixing = torch.tensor(np.random.uniform(0, 1, len(many)), dtype=torch.float32)  # noqa: NPY002
    return noisy, CLOUD[picked], mixing[:, None]


def average(values: Tensor) -> Tensor:
    """Mean over the draws of each example."""
    return values.reshape(len(X), SAMPLES, -1).mean(1)


def test_gradient_shap() -> None:
    noisy, start, mixing = draws()
    slope = rows(lambda p: gradient(lambda q: NET(q)[:, TARGET], p), mixing * noisy + (1 - mixing) * start)
    seed()
    found, delta = attr.GradientShap(NET).attribute(
        X, CLOUD, n_samples=SAMPLES, stdevs=STDEV, target=TARGET, return_convergence_delta=True
    )
    close(found, average(slope * (noisy - start)))
    with torch.no_grad():
        change = NET(noisy)[:, TARGET] - NET(start)[:, TARGET]
    assert delta.shape == (len(X) * SAMPLES,)
    # one delta per draw, of the mean attribution of its example or of the draw itself: the sums agree
    close(delta.reshape(len(X), SAMPLES).mean(1), found.sum(1) - change.reshape(len(X), SAMPLES).mean(1))
    seed()
    plain = attr.GradientShap(NET, multiply_by_inputs=False)
    close(plain.attribute(X, CLOUD, n_samples=SAMPLES, stdevs=STDEV, target=TARGET), average(slope))


def test_gradient_shap_delta_belongs_to_each_draw() -> None:
    noisy, start, mixing = draws()
    slope = rows(lambda p: gradient(lambda q: NET(q)[:, TARGET], p), mixing * noisy + (1 - mixing) * start)
    seed()
    _, delta = attr.GradientShap(NET).attribute(
        X, CLOUD, n_samples=SAMPLES, stdevs=STDEV, target=TARGET, return_convergence_delta=True
    )
    with torch.no_grad():
        change = NET(noisy)[:, TARGET] - NET(start)[:, TARGET]
    close(delta, (slope * (noisy - start)).sum(1) - change)


def test_layer_gradient_shap() -> None:
    """The path point is mixed in the input; the difference is of the layer's values at both ends."""
    noisy, start, mixing = draws()
    with torch.no_grad():
        point = NET.layer(mixing * noisy + (1 - mixing) * start)
        step = NET.layer(noisy) - NET.layer(start)
    slope = rows(lambda y: gradient(lambda q: NET.head(q)[:, TARGET], y), point)
    seed()
    found = attr.LayerGradientShap(NET, NET.layer).attribute(X, CLOUD, n_samples=SAMPLES, stdevs=STDEV, target=TARGET)
    close(found, average(slope * step))


def test_neuron_gradient_shap() -> None:
    noisy, start, mixing = draws()
    slope = rows(lambda p: gradient(lambda q: NET.layer(q)[:, 2], p), mixing * noisy + (1 - mixing) * start)
    seed()
    found = attr.NeuronGradientShap(NET, NET.layer).attribute(X, 2, CLOUD, n_samples=SAMPLES, stdevs=STDEV)
    close(found, average(slope * (noisy - start)))


def test_gradient_shap_draws_noise_even_when_it_is_zero() -> None:
    """So that the stream is at the same place whatever ``stdevs`` is."""
    states = set()
    for stdev in (0.0, 0.3):
        seed()
        attr.GradientShap(NET).attribute(X, CLOUD, n_samples=SAMPLES, stdevs=stdev, target=TARGET)
        states.add((float(torch.rand(())), float(np.random.rand())))  # noqa: NPY002
    assert len(states) == 1


def test_gradient_shap_takes_a_function_of_baselines() -> None:
    wanted = []
    for baselines in (CLOUD, lambda: CLOUD * 1, lambda inputs: CLOUD.to(inputs.dtype)):
        seed()
        wanted.append(attr.GradientShap(NET).attribute(X, baselines, n_samples=SAMPLES, target=TARGET))
    close(wanted[1], wanted[0])
    close(wanted[2], wanted[0])


def test_gradient_shap_of_a_linear_score_is_exact() -> None:
    """Contract 21.17: one baseline, no noise."""
    weight = torch.tensor([2.0, -1.0, 0.5])
    found = attr.GradientShap(lambda x: x @ weight).attribute(X, CLOUD[:1], n_samples=3)
    close(found, (X - CLOUD[:1]) * weight)


def _noisy(stdev: float) -> Tensor:
    seed()
    many = X.repeat_interleave(SAMPLES, 0)
    return many + torch.normal(0, torch.full_like(many, stdev))


_MOMENTS = {
    "smoothgrad": lambda values: values.mean(1),
    "smoothgrad_sq": lambda values: values.square().mean(1),
    "vargrad": lambda values: values.double().var(1, unbiased=False).float(),
}


@pytest.mark.parametrize("nt_type", list(_MOMENTS))
def test_noise_tunnel_moments(nt_type: str) -> None:
    noisy = _noisy(STDEV)
    values = rows(lambda p: gradient(lambda q: NET(q)[:, TARGET], p).abs(), noisy).reshape(len(X), SAMPLES, -1)
    seed()
    found = attr.NoiseTunnel(attr.Saliency(NET)).attribute(
        X, nt_type=nt_type, nt_samples=SAMPLES, stdevs=STDEV, target=TARGET
    )
    close(found, _MOMENTS[nt_type](values))


def test_noise_tunnel_repeats_targets_and_baselines_with_the_rows() -> None:
    targets, start = [0, 1], drawn(2, 3, seed=9)
    noisy = _noisy(STDEV)
    inner = attr.IntegratedGradients(NET)
    per_draw, deltas = inner.attribute(
        noisy, start.repeat_interleave(SAMPLES, 0), [0] * SAMPLES + [1] * SAMPLES, n_steps=7,
        return_convergence_delta=True,
    )  # fmt: skip
    for batch in (None, 1, 3):
        seed()
        found, delta = attr.NoiseTunnel(inner).attribute(
            X, nt_samples=SAMPLES, nt_samples_batch_size=batch, stdevs=STDEV, baselines=start, target=targets,
            n_steps=7, return_convergence_delta=True,
        )  # fmt: skip
        close(found, average(per_draw))
        close(delta, deltas)  # example-major, also in chunks


def test_noise_tunnel_draws_baselines() -> None:
    """One row of the distribution for each draw, from numpy's stream before the noise (contract 16)."""
    seed()
    picked = np.random.choice(len(CLOUD), SAMPLES * len(X))  # noqa: NPY002
    many = X.repeat_interleave(SAMPLES, 0)
    noisy = many + torch.normal(0, torch.full_like(many, STDEV))
    inner = attr.IntegratedGradients(NET)
    want = average(inner.attribute(noisy, CLOUD[picked], TARGET, n_steps=7))
    seed()
    found = attr.NoiseTunnel(inner).attribute(
        X, nt_samples=SAMPLES, stdevs=STDEV, baselines=CLOUD, draw_baseline_from_distrib=True, target=TARGET, n_steps=7
    )
    close(found, want)


def test_noise_tunnel_without_noise_is_the_method() -> None:
    inner = attr.Saliency(NET)
    found = attr.NoiseTunnel(inner).attribute(X, nt_samples=3, stdevs=0.0, target=TARGET)
    close(found, inner.attribute(X, TARGET))


def test_vargrad_of_a_linear_score_is_zero_and_never_negative() -> None:
    """The two-moment formula cancels in float32; a large constant gradient shows it."""
    weight = torch.tensor([3000.1, -1000.3, 0.7])
    method = attr.NoiseTunnel(attr.Saliency(lambda x: x @ weight))
    found = method.attribute(X, nt_type="vargrad", nt_samples=50, stdevs=0.5)
    assert torch.equal(found, torch.zeros_like(X))
    curved = attr.NoiseTunnel(
        attr.Saliency(
            lambda x: x @ weight + 1e-3 * x.square().sum(1),
        )
    )
    values = curved.attribute(X, nt_type="vargrad", nt_samples=500, stdevs=0.5, abs=False, seed=0)
    # the gradient is weight + 2e-3 x, so its variance is 4e-6 * 0.25
    assert (values >= 0).all()
    close(values[:, 2], torch.full((2,), 1e-6), 5e-1)


def test_stdevs_one_per_tensor() -> None:
    def product(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(1)

    a, b = X, X.flip(0)
    found = attr.NoiseTunnel(attr.Saliency(product)).attribute((a, b), nt_samples=4, stdevs=(0.0, 0.5), abs=False)
    close(found[1], a)
    assert (found[0] - b).abs().max() > 1e-3
