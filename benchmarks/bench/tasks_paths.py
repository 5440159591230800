"""Tasks of the gradient and path methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.bench import loops, nets
from benchmarks.bench.task import Contender, Task, Work, faster, lighter, near_bare

TARGET = 285
STEPS = 50


def _reseed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (the published package draws from numpy's global stream)


def _integrated(attr: Any, _: Contender) -> Work:
    explainer, x = attr.IntegratedGradients(nets.seeded(nets.ResNet18)), nets.images()
    return lambda: explainer.attribute(x, target=TARGET, n_steps=STEPS)


def _integrated_bare(_: Any, who: Contender) -> Work:
    setting = loops.parse(who.variant)
    model, x = loops.arranged(nets.seeded(nets.ResNet18), setting[1]), nets.images()
    return lambda: loops.integrated_gradients(model, x, TARGET, STEPS, setting)


def _noise_tunnel(attr: Any, _: Contender) -> Work:
    tunnel, x = attr.NoiseTunnel(attr.Saliency(nets.seeded(nets.ResNet18))), nets.images()

    def run() -> object:
        _reseed()
        return tunnel.attribute(x, target=TARGET, nt_samples=STEPS, stdevs=0.2)

    return run


def _gradient_shap(attr: Any, _: Contender) -> Work:
    explainer, x = attr.GradientShap(nets.seeded(nets.ResNet18)), nets.images()
    baselines = nets.draw(4, 3, nets.SIZE, nets.SIZE, seed=2) * 0.1

    def run() -> object:
        _reseed()
        return explainer.attribute(x, baselines, n_samples=STEPS, stdevs=0.1, target=TARGET)

    return run


def _conductance(attr: Any, _: Contender) -> Work:
    model, x = nets.seeded(nets.ResNet18), nets.images()
    explainer = attr.LayerConductance(model, model.get_submodule("layer3"))
    return lambda: explainer.attribute(x, target=TARGET, n_steps=STEPS)


def _layer_path(attr: Any, _: Contender) -> Work:
    model, x = nets.seeded(nets.ResNet18), nets.images()
    explainer = attr.LayerIntegratedGradients(model, model.get_submodule("layer3"))
    return lambda: explainer.attribute(x, target=TARGET, n_steps=STEPS)


def _small_saliency(attr: Any, _: Contender) -> Work:
    explainer, x = attr.Saliency(_small()), nets.draw(1, 10)
    return lambda: explainer.attribute(x, target=1)


def _small() -> nn.Module:
    return nets.seeded(lambda: nets.perceptron(10, 16, 3))


PATH_TASKS = (
    Task(
        "ig50",
        "Integrated gradients, 50 steps, ResNet-18 224², default settings",
        _integrated,
        ("IntegratedGradients",),
        (faster(1.7), near_bare(1.10), lighter(0.25)),
        bare=_integrated_bare,
        bare_variants=loops.SETTINGS,
    ),
    Task(
        "noise_tunnel",
        "NoiseTunnel(Saliency), 50 samples, ResNet-18 224²",
        _noise_tunnel,
        ("NoiseTunnel", "Saliency"),
        (faster(1.5), lighter(1.0)),
    ),
    Task(
        "gradient_shap",
        "GradientShap, 50 samples, ResNet-18 224²",
        _gradient_shap,
        ("GradientShap",),
        (faster(1.5), lighter(1.0)),
    ),
    Task(
        "conductance",
        "LayerConductance of layer3, 50 steps, ResNet-18 224²",
        _conductance,
        ("LayerConductance",),
        (faster(1.5), lighter(1.0)),
        agree=0.2,
    ),
    Task(
        "layer_ig",
        "LayerIntegratedGradients of layer3, 50 steps, ResNet-18 224²",
        _layer_path,
        ("LayerIntegratedGradients",),
        (faster(1.5), lighter(1.0)),
    ),
    Task(
        "small_saliency",
        "Saliency, one row of a small perceptron (per call)",
        _small_saliency,
        ("Saliency",),
        (faster(1.0),),
        repeats=15,
        calls=300,
    ),
)
