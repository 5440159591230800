"""How far KernelShap is from exact values at a budget: 12 features, random tanh and ReLU networks, 8 seeds.

Run as a script to print the table for all estimators:

    python -m tests.unit.attr.games.test_error_bars
"""

from __future__ import annotations

import pytest
import torch

from captum.attr.games.exact import exact_shapley
from captum.attr.games.marginals import random_orders, seeded_orders
from captum.attr.games.play import Estimate, Estimator, play
from captum.attr.games.regression import paired_regression
from captum.attr.games.stopping import parse_stopping
from tests.unit.attr.games.toy import network

PLAYERS = 12
SEEDS = range(8)
ESTIMATORS = ("adjusted", "leverage", "kernel", "orders")


def body(name: str, budget: int, seed: int) -> Estimator[Estimate]:
    """An estimator with a budget of evaluations."""
    source = torch.Generator().manual_seed(seed)
    if name == "orders":
        orders = parse_stopping((budget - 3) // (PLAYERS - 1), None, None)
        return random_orders(PLAYERS, seeded_orders(PLAYERS, source), orders, antithetic=True)
    stopping = parse_stopping(budget, None, None)
    weighting = "kernel" if name == "kernel" else "leverage"
    return paired_regression(PLAYERS, stopping, weighting, source, adjusted=name == "adjusted")


def error(name: str, kind: str, budget: int) -> float:
    """Relative L2 error to the exact values, the mean over seeds."""
    total = 0.0
    for seed in SEEDS:
        game = network(PLAYERS, seed, kind)
        exact = play(exact_shapley(PLAYERS), game).values
        found = play(body(name, budget, seed), game)
        assert found.evaluations <= budget + PLAYERS
        total += float((found.values - exact).norm() / exact.norm())
    return total / len(SEEDS)


@pytest.mark.parametrize(
    ("budget", "bar"), [(128, 0.111), (512, 0.035), pytest.param(2048, 0.008, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_kernel_shap_meets_the_bar(kind: str, budget: int, bar: float) -> None:
    assert error("adjusted", kind, budget) <= bar


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_the_adjustment_pays(kind: str) -> None:
    assert error("adjusted", kind, 512) < 0.8 * error("leverage", kind, 512)


def main() -> None:
    """Print the table."""
    for kind in ("tanh", "relu"):
        for budget in (128, 512, 2048):
            row = "  ".join(f"{name} {error(name, kind, budget):.4f}" for name in ESTIMATORS)
            print(f"{kind} {budget:5d}  {row}")  # noqa: T201  # a script's output


if __name__ == "__main__":
    main()
