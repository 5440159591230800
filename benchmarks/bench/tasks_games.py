"""Tasks of the perturbation methods."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch

from benchmarks.bench import loops, nets
from benchmarks.bench.accuracy import kernel_shap_error
from benchmarks.bench.task import OURS, PEER, Contender, Prepare, Task, Work, accurate, faster, near_bare

TARGET = 285


def _tabular(rows: int) -> tuple[torch.nn.Module, torch.Tensor]:
    return nets.seeded(lambda: nets.perceptron(30, 64, 3)), nets.draw(rows, 30)


def _packed(variant: str) -> dict[str, int]:
    return {"perturbations_per_eval": int(variant)} if variant.isdigit() else {}


def _kernel_shap(attr: Any, who: Contender) -> Work:
    if who.side == PEER:
        return _peer_kernel_shap()
    model, x = _tabular(64 if who.side == OURS else 2)
    explainer = attr.KernelShap(model)

    def run() -> object:
        torch.manual_seed(0)
        return explainer.attribute(x, target=1, n_samples=2048, **_packed(who.variant))

    return run


def _peer_kernel_shap() -> Work:
    shap = importlib.import_module("shap")
    model, x = _tabular(2)

    def score(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.as_tensor(rows, dtype=torch.float32))[:, 1].numpy()

    explainer = shap.KernelExplainer(score, np.zeros((1, 30)))
    return lambda: explainer.shap_values(x.numpy(), nsamples=2048, silent=True)


def _sampling(orders: int) -> Prepare:
    def prepare(attr: Any, who: Contender) -> Work:
        model, x = _tabular(64)
        explainer = attr.ShapleyValueSampling(model)

        def run() -> object:
            torch.manual_seed(0)
            return explainer.attribute(x, target=1, n_samples=orders, **_packed(who.variant))

        return run

    return prepare


def _sampling_bare(orders: int) -> Prepare:
    """As many rows where features are switched off: orders of 29 steps each, their ends, and the input itself."""

    def prepare(_: Any, who: Contender) -> Work:
        model, x = _tabular(64)
        share = int(who.variant) // len(x)

        def run() -> object:
            torch.manual_seed(0)
            on = torch.bernoulli(torch.full((orders * 29 + 3, 1, 30), 0.5))
            with torch.inference_mode():
                return torch.cat([model((part * x).flatten(0, 1))[:, 1] for part in on.split(share)])

        return run

    return prepare


def _coalitions() -> torch.Tensor:
    return torch.rand((7250, 30), generator=torch.Generator().manual_seed(0)) < 0.5


def _game(_: Any, __: Contender) -> Work:
    games = importlib.import_module("captum.attr.games")
    (model, x), coalitions = _tabular(64), _coalitions()
    return lambda: games.CoalitionGame(model, x, target=1)(coalitions)


def _game_bare(_: Any, who: Contender) -> Work:
    (model, x), coalitions = _tabular(64), _coalitions()
    share = int(who.variant) // len(x)

    def run() -> object:
        with torch.inference_mode():
            return torch.cat([model((on[:, None] * x).flatten(0, 1))[:, 1] for on in coalitions.split(share)])

    return run


def _exact(attr: Any, who: Contender) -> Work:
    model, x = nets.seeded(lambda: nets.perceptron(8, 32, 3)), nets.draw(1, 8)
    explainer = attr.ShapleyValues(model)
    return lambda: explainer.attribute(x, target=1, **_packed(who.variant))


def _ablation(rows: int) -> Prepare:
    def prepare(attr: Any, who: Contender) -> Work:
        model, x = nets.seeded(lambda: nets.perceptron(500, 64, 3)), nets.draw(rows, 500)
        explainer = attr.FeatureAblation(model)
        return lambda: explainer.attribute(x, target=1, **_packed(who.variant))

    return prepare


def _superpixels() -> torch.Tensor:
    side = torch.arange(nets.SIZE) * 14 // nets.SIZE
    return (side[:, None] * 14 + side[None, :]).view(1, 1, nets.SIZE, nets.SIZE)


def _lime(attr: Any, who: Contender) -> Work:
    explainer, x, mask = attr.Lime(nets.seeded(nets.ResNet18)), nets.images(), _superpixels()

    def run() -> object:
        torch.manual_seed(0)
        return explainer.attribute(x, target=TARGET, feature_mask=mask, n_samples=500, **_packed(who.variant))

    return run


def _lime_bare(_: Any, who: Contender) -> Work:
    setting = loops.parse(who.variant)
    model, x = loops.arranged(nets.seeded(nets.ResNet18), setting[1]), nets.images()
    mask = _superpixels()

    def run() -> object:
        torch.manual_seed(0)
        scores = []
        for start in range(0, 500, setting[0]):
            on = torch.bernoulli(torch.full((min(setting[0], 500 - start), 196), 0.5))
            scores.append(loops.forwards(model, x * on[:, mask[0, 0]][:, None], TARGET, setting))
        return torch.cat(scores)

    return run


def _occlusion(attr: Any, who: Contender) -> Work:
    explainer, x = attr.Occlusion(nets.seeded(nets.ResNet18)), nets.images()
    extra = {"incremental": True} if who.variant == "incremental" else _packed(who.variant)
    return lambda: explainer.attribute(x, (3, 15, 15), (3, 8, 8), target=TARGET, **extra)


GAME_TASKS = (
    Task(
        "kernel_shap",
        "KernelShap, 30 features, 64 rows, 2,048 samples each",
        _kernel_shap,
        ("KernelShap",),
        (faster(100, "upstream:best"), faster(12, "peer:shap")),
        upstream=("256", "2048"),
        peers=("shap",),
        agree=None,
        share=2 / 64,
        repeats=3,
    ),
    *(
        Task(
            f"kernel_shap_error_{budget}",
            f"KernelShap, relative error to the exact values, {players} features, {budget} evaluations, 8 nets",
            kernel_shap_error(players, budget),
            ("KernelShap",),
            (accurate(limit),),
            agree=None,
            repeats=1,
        )
        for players, budget, limit in ((12, 2048, 0.008), (12, 512, 0.035), (6, 64, 1e-5))
    ),
    Task(
        "shapley_sampling",
        "ShapleyValueSampling, the same net, 64 rows, 25 permutations",
        _sampling(25),
        ("ShapleyValueSampling",),
        (faster(8), faster(2, "upstream:best")),
        upstream=("6", "15", "30"),
        agree=None,
        calls=5,
    ),
    Task(
        "game",
        "CoalitionGame: scores of 7,250 coalitions, the same net, 64 rows",
        _game,
        (),
        (near_bare(1.1),),
        bare=_game_bare,
        bare_variants=("4096", "8192", "16384"),
        agree=None,
        repeats=9,
        calls=3,
        alone=True,
    ),
    *(
        Task(
            f"shapley_overhead_{orders}",
            f"ShapleyValueSampling, the same net, 64 rows, {orders} permutations: beside its bare forwards",
            _sampling(orders),
            ("ShapleyValueSampling",),
            (near_bare(limit),),
            bare=_sampling_bare(orders),
            bare_variants=("4096", "8192", "16384"),
            agree=None,
            repeats=9,
            calls=5,
            alone=True,
        )
        for orders, limit in ((25, 1.75), (250, 1.25))
    ),
    Task(
        "exact_shapley",
        "exact ShapleyValues, 8 features",
        _exact,
        ("ShapleyValues",),
        (faster(500),),
        upstream=("8",),
        repeats=2,
    ),
    *(
        Task(
            f"feature_ablation_{rows}",
            f"FeatureAblation, 500 features, perceptron, {rows} row{'s' * (rows > 1)}",
            _ablation(rows),
            ("FeatureAblation",),
            (faster(20),),
            calls=5,
        )
        for rows in (1, 4, 8)
    ),
    Task(
        "lime",
        "Lime, 196 superpixels, ResNet-18 224², 500 samples",
        _lime,
        ("Lime",),
        (faster(1.5), near_bare(1.1)),
        bare=_lime_bare,
        bare_variants=loops.SETTINGS,
        agree=1e-2,
        repeats=3,
    ),
    Task(
        "occlusion",
        "Occlusion 15×15 stride 8, ResNet-18 224²",
        _occlusion,
        ("Occlusion",),
        (faster(1.4), faster(2.5, who="ours:incremental")),
        ours=("incremental",),
        repeats=3,
    ),
)
