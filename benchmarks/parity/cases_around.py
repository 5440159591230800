"""Cases of what stands around attribution: metrics, stochastic gates."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.parity import models
from benchmarks.parity.case import Case, bound
from benchmarks.parity.models import draw

METRICS = "captum.metrics"
GATES = "captum.module"


def around_cases() -> Iterator[Case]:
    """Metrics of explanations of three methods; gates in training and evaluation."""
    yield from _infidelity_cases()
    yield from _sensitivity_cases()
    yield from _gate_cases()


def _net(seed: int = 7) -> torch.nn.Module:
    torch.manual_seed(seed)
    return models.Perceptron().eval()


def _infidelity_cases() -> Iterator[Case]:
    for algorithm in ("IntegratedGradients", "Saliency", "FeatureAblation"):
        for label, options in (
            ("default", {}),
            ("normalized", {"normalize": True}),
            ("samples=3", {"n_perturb_samples": 3}),
            ("batches", {"max_examples_per_batch": 7}),
            ("baselines", {"baselines": draw(4, 5, seed=9)}),
            ("number", {"baselines": 0.3}),
        ):
            run = bound(_infidelity, algorithm, options)
            yield Case(algorithm, f"infidelity/{label}", run, (f"{METRICS}:infidelity",))
    yield Case("Saliency", "infidelity/two inputs", _infidelity_of_two, (f"{METRICS}:infidelity",))
    yield Case("Saliency", "infidelity/shapes", _infidelity_of_wrong_shapes, (f"{METRICS}:infidelity",))


def _infidelity(attr: Any, algorithm: str, options: dict[str, Any]) -> object:
    metrics = importlib.import_module(METRICS)
    net, x = _net(), draw(4, 5)
    target = torch.tensor([0, 2, 1, 0])
    values = getattr(attr, algorithm)(net).attribute(x, target=target).detach()

    def noise(inputs: Tensor, baselines: Any = None) -> Tensor:
        return inputs - 0.1 * torch.randn_like(inputs) * (1 if baselines is None else 2)

    perturb = metrics.infidelity_perturb_func_decorator(algorithm != "Saliency")(noise)
    torch.manual_seed(3)
    return metrics.infidelity(net, perturb, x, values, target=target, **options)


def _infidelity_of_two(_: Any) -> object:
    metrics = importlib.import_module(METRICS)
    x, y = draw(3, 4), draw(3, 2, seed=5)

    def model(a: Tensor, b: Tensor, scale: Tensor, power: int) -> Tensor:
        return ((a.sum(1) * b.sum(1)) * scale[:, 0]) ** power

    def noise(inputs: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        steps = tuple(torch.rand_like(t) for t in inputs)
        return steps, tuple(t - s for t, s in zip(inputs, steps, strict=True))

    extra = (draw(3, 1, seed=6), 2)
    return metrics.infidelity(model, noise, (x, y), (y.repeat(1, 2), x[:, :2]), additional_forward_args=extra)


def _infidelity_of_wrong_shapes(_: Any) -> object:
    metrics = importlib.import_module(METRICS)
    return metrics.infidelity(_net(), lambda x: (x, x), draw(4, 5), draw(4, 3), target=0)


def _sensitivity_cases() -> Iterator[Case]:
    for algorithm in ("IntegratedGradients", "Saliency", "FeatureAblation"):
        for label, options in (
            ("default", {}),
            ("radius", {"perturb_radius": 0.5}),
            ("samples=3", {"n_perturb_samples": 3}),
            ("batches", {"max_examples_per_batch": 9}),
            ("norm=1", {"norm_ord": 1}),
            ("norm=inf", {"norm_ord": float("inf")}),
            ("list", {"target": [0, 2, 1, 0]}),
        ):
            run = bound(_sensitivity, algorithm, options)
            yield Case(algorithm, f"sensitivity_max/{label}", run, (f"{METRICS}:sensitivity_max",))
    for label in ("tuple", "two"):
        yield Case(
            "Saliency", f"sensitivity_max/{label}", bound(_sensitivity_of, label), (f"{METRICS}:sensitivity_max",)
        )


def _sensitivity(attr: Any, algorithm: str, options: dict[str, Any]) -> object:
    metrics = importlib.import_module(METRICS)
    explain = getattr(attr, algorithm)(_net()).attribute
    more = {} if algorithm == "Saliency" else {"baselines": draw(4, 5, seed=2)}
    torch.manual_seed(3)
    return metrics.sensitivity_max(explain, draw(4, 5), **{"target": torch.tensor([0, 2, 1, 0]), **more, **options})


def _sensitivity_of(attr: Any, form: str) -> object:
    metrics = importlib.import_module(METRICS)
    x, y = draw(3, 4), draw(3, 2, seed=5)
    explain = attr.Saliency(lambda a, *b: a.pow(2).sum(1) * (b[0].sum(1) if b else 1)).attribute
    torch.manual_seed(3)
    return metrics.sensitivity_max(explain, (x,) if form == "tuple" else (x, y), n_perturb_samples=4)


def _gate_cases() -> Iterator[Case]:
    for kind in ("GaussianStochasticGates", "BinaryConcreteStochasticGates"):
        for label, options in (
            ("plain", {}),
            ("mask", {"mask": torch.tensor([[0, 0], [1, 2]])}),
            ("mean", {"reg_weight": 3.0, "reg_reduction": "mean"}),
            ("none", {"reg_reduction": "none"}),
        ):
            for mode in ("train", "eval"):
                run = bound(_gates, kind, options, mode)
                yield Case("Saliency", f"{kind}/{label}/{mode}", run, (f"{GATES}:{kind}",))


def _gates(_: Any, kind: str, options: dict[str, Any], mode: str) -> object:
    make = getattr(importlib.import_module(GATES), kind)
    torch.manual_seed(4)
    gates = make(3 if "mask" in options else 4, **options).train(mode == "train")
    x = draw(5, 2, 2)
    gated, cost = gates(x if "mask" in options else x.flatten(1))
    found = [gated, cost, gates.get_gate_values(), gates.get_gate_values(clamp=False), gates.get_gate_active_probs()]
    return [t.detach() for t in found]
