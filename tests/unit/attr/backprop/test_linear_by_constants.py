"""Maps that are linear by a constant: sampling at fixed points, unpooling, complex rotation; and distances."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import LRP, DeepLift
from captum.errors import UnknownOperatorError

D = torch.float64
RULES = ["rescale", "reveal_cancel"]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def of(function: object) -> nn.Module:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)  # type: ignore[operator]

    return Model()


X, X0 = drawn(2, 3, 4, 4, seed=1), drawn(2, 3, 4, 4, seed=2)
W = drawn(3 * 25, seed=3)
GRID = torch.rand(1, 5, 5, 2, generator=torch.Generator().manual_seed(4), dtype=D) * 2.4 - 1.2


def sample(x: Tensor, mode: str, padding: str) -> Tensor:
    return F.grid_sample(x, GRID.expand(len(x), -1, -1, -1), mode, padding, align_corners=False)


def matrix_of(function: object, x: Tensor) -> Tensor:
    """A linear map of one example as ``(outputs, inputs)``."""
    jacobian = torch.autograd.functional.jacobian(lambda t: function(t[None])[0].flatten(), torch.zeros_like(x[0]))  # type: ignore[operator]
    return jacobian.reshape(len(jacobian), -1)  # type: ignore[arg-type]


def shared(matrix: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
    """R_i = Σ_j x_i A_ji R_j / Σ_i x_i A_ji for each example."""
    contributions = matrix * x.flatten(1)[:, None, :]
    z = contributions.sum(2)
    shares = torch.where(z == 0, 0.0, relevance / torch.where(z == 0, 1.0, z))
    return torch.einsum("boi,bo->bi", contributions, shares).reshape(x.shape)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_sampling_at_fixed_points_is_a_matrix(mode: str, padding: str) -> None:
    matrix = matrix_of(lambda t: sample(t, mode, padding), X)
    model = of(lambda x: (sample(x, mode, padding).flatten(1).tanh() * W).sum(1))
    relevance = (X.flatten(1) @ matrix.T).tanh() * W
    torch.testing.assert_close(LRP(model).attribute(X), shared(matrix, X, relevance), rtol=1e-6, atol=1e-6)
    y, y0 = X.flatten(1) @ matrix.T, X0.flatten(1) @ matrix.T
    slopes = torch.where(y == y0, 1 - y.tanh() ** 2, (y.tanh() - y0.tanh()) / torch.where(y == y0, 1.0, y - y0))
    found = DeepLift(model).attribute(X, X0)
    torch.testing.assert_close(found, ((slopes * W) @ matrix).reshape(X.shape) * (X - X0))


def test_sampling_at_points_that_vary_is_refused() -> None:
    def transformed(x: Tensor) -> Tensor:
        theta = torch.eye(2, 3).to(x).expand(len(x), 2, 3) + 0.1 * x.mean((1, 2, 3)).tanh()[:, None, None]
        return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False).sum(
            (1, 2, 3)
        )

    for method in (LRP(of(transformed)), DeepLift(of(transformed))):
        with pytest.raises(UnknownOperatorError, match="grid_sample at points that vary"):
            method.attribute(X)


@pytest.mark.parametrize("rule", RULES)
def test_unpooling_moves_what_the_pool_took(rule: str) -> None:
    weights = torch.linspace(-1, 2, 48, dtype=D)

    def pooled(x: Tensor) -> Tensor:
        values, places = F.max_pool2d(x, 2, return_indices=True)
        return (F.max_unpool2d(values, places, 2).flatten(1) * weights).sum(1)

    model = of(pooled)
    largest = F.max_pool2d(X, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    want = torch.where(largest == X, X * weights.reshape(1, 3, 4, 4), 0.0)
    torch.testing.assert_close(LRP(model).attribute(X), want)
    found, delta = DeepLift(model, rule=rule).attribute(X, X0, return_convergence_delta=True)  # type: ignore[arg-type]
    assert float(delta.abs().max()) < 1e-10
    assert float(found.abs().sum()) > 1


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
def test_distances_are_explained_whole(p: float) -> None:
    centres = drawn(5, 4, seed=6)
    model = of(lambda x: (-torch.cdist(x.flatten(1, 2), centres.expand(len(x), 5, 4), p=p)).exp().sum((1, 2)))
    plain = of(
        lambda x: (-torch.linalg.vector_norm(x.flatten(1, 2)[:, :, None] - centres, ord=p, dim=-1)).exp().sum((1, 2))
    )
    found, delta = DeepLift(model).attribute(X, X0, return_convergence_delta=True)
    assert float(delta.abs().max()) < 1e-10
    torch.testing.assert_close(found, DeepLift(plain).attribute(X, X0))
    relevance = LRP(model).attribute(X)
    torch.testing.assert_close(relevance, LRP(plain).attribute(X))


def test_distances_to_itself_are_zero_and_explain_nothing() -> None:
    model = of(lambda x: (torch.cdist(x.flatten(2), x.flatten(2)) ** 2).sum((1, 2)))
    found, delta = DeepLift(model).attribute(X, X0, return_convergence_delta=True)
    assert bool(found.isfinite().all())
    assert float(delta.abs().max()) < 1e-9
    squares = of(lambda x: (x.flatten(2)[:, :, None] - x.flatten(2)[:, None]).square().sum((1, 2, 3)))
    gradient = torch.autograd.functional.jacobian(lambda t: squares(t).sum(), X)
    torch.testing.assert_close(DeepLift(model, multiply_by_inputs=False).attribute(X, X), gradient)


class Rotary(nn.Module):
    """Attention scores of queries and keys that are turned by their positions, by complex numbers or by real ones."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = (nn.Linear(4, 4, bias=False, dtype=D) for _ in range(3))
        self.how = how

    def turned(self, x: Tensor) -> Tensor:
        angles = torch.outer(torch.arange(x.shape[1], dtype=D), torch.tensor([1.0, 0.1], dtype=D))
        pairs = x.unflatten(-1, (2, 2))
        if self.how == "complex":
            turn = torch.polar(torch.ones_like(angles), angles)
            return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(2)
        if self.how == "born of a constant":
            turn = torch.polar(torch.ones_like(angles), angles)
            numbers = pairs[..., 0] * torch.ones((), dtype=turn.dtype) + pairs[..., 1] * 1j
            numbers = numbers * turn
            return torch.stack([numbers.real, numbers.imag], -1).flatten(2)
        a, b = pairs[..., 0], pairs[..., 1]
        cos, sin = angles.cos(), angles.sin()
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.turned(self.q(x)) @ self.turned(self.k(x)).mT
        return (scores.softmax(-1) @ self.v(x)).flatten(1).sum(1)


@pytest.mark.parametrize("how", ["complex", "born of a constant"])
def test_a_rotation_by_complex_numbers_is_one_by_sines_and_cosines(how: str) -> None:
    x, x0 = X[:, 0], X0[:, 0]
    for composite in ("epsilon", "attn_lrp", "cp_lrp"):
        found, want = (LRP(Rotary(h), composite=composite).attribute(x) for h in (how, "real"))
        torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-6)
    for rule in RULES:
        found, delta = DeepLift(Rotary(how), rule=rule).attribute(x, x0, return_convergence_delta=True)  # type: ignore[arg-type]
        assert float(delta.abs().max()) < 1e-10
        if rule == "rescale":
            torch.testing.assert_close(found, DeepLift(Rotary("real")).attribute(x, x0))


def test_other_functions_of_complex_numbers_are_refused() -> None:
    model = of(lambda x: torch.view_as_complex(x.unflatten(-1, (2, 2))).exp().real.sum((1, 2, 3)))
    for method in (LRP(model), DeepLift(model)):
        with pytest.raises(UnknownOperatorError, match="exp of complex numbers"):
            method.attribute(X)
