"""How far sampled Shapley values are from the exact ones, on games small enough to enumerate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bench import nets
from benchmarks.bench.task import Contender, Prepare, Work

SEEDS = range(8)


def exact(model: nn.Module, x: Tensor) -> Tensor:
    """Shapley values of one row from zeros, by the definition over all coalitions, in float64."""
    players = x.shape[1]
    masks = (torch.arange(2**players)[:, None] >> torch.arange(players)) & 1
    with torch.inference_mode():
        scores = model(x * masks).double().flatten()
    values = torch.zeros(players, dtype=torch.float64)
    sizes = masks.sum(1)
    weights = torch.tensor(
        [math.factorial(k) * math.factorial(players - 1 - k) / math.factorial(players) for k in range(players)],
        dtype=torch.float64,
    )
    for player in range(players):
        without = masks[:, player] == 0
        gain = scores[torch.nonzero(without).flatten() + 2**player] - scores[without]
        values[player] = (weights[sizes[without]] * gain).sum()
    return values


def kernel_shap_error(players: int, budget: int) -> Prepare:
    """A task whose result is the mean relative L2 error over the seeds."""

    def prepare(attr: Any, _: Contender) -> Work:
        games = []
        for seed in SEEDS:
            model = nets.seeded(lambda: _net(players), seed)
            x = nets.draw(1, players, seed=seed + 100)
            games.append((attr.KernelShap(model), x, exact(model, x)))

        def run() -> object:
            errors = []
            for seed, (explainer, x, values) in zip(SEEDS, games, strict=True):
                torch.manual_seed(seed)
                found = explainer.attribute(x, n_samples=budget, perturbations_per_eval=64).double().flatten()
                errors.append(float((found - values).norm() / values.norm()))
            return sum(errors) / len(errors)

        return run

    return prepare


def _net(players: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(players, 32), nn.Tanh(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0)
    )
