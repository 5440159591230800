"""Cases of the methods with backward rules: DeepLIFT, guided backprop, deconvolution, guided Grad-CAM, LRP."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.parity.case import Case, bound
from benchmarks.parity.models import draw, seeded
from benchmarks.parity.scenes import SCENES, Scene

RULES = "captum.attr._utils.lrp_rules"
MODULE_SCENES = ("toy", "perceptron", "perceptron64", "conv_inplace", "conv_pooled", "relu_only")
RELU_SCENES = ("toy", "conv_inplace", "conv_pooled", "relu_only")


class Chain(nn.Module):
    """Every activation module that the published DeepLIFT supports, each between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        kinds = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
        self.steps = nn.Sequential(*(part for kind in kinds for part in (nn.Linear(5, 5), kind())))
        self.last = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 5) to (N, 3)."""
        return self.last(self.steps(x) * 2.0)


class Plain(nn.Module):
    """Convolution, batch norm, ReLU, pooling and a linear head: what the published LRP supports."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 2, 8, 8) to (N, 3)."""
        x = self.pool1(self.relu1(self.conv(x)))
        return self.fc(self.pool2(self.relu2(self.conv2(x))).flatten(1))


def deep_lift_cases() -> Iterator[Case]:
    """The six DeepLIFT classes on nets of module activations, with every form of baseline."""
    for label in MODULE_SCENES:
        yield Case("DeepLift", label, bound(_deep_lift, SCENES[label]()))
        run = bound(_deep_lift, SCENES[label](), multiply_by_inputs=False)
        yield Case("DeepLift", f"{label}/no-multiply", run)
        yield Case("DeepLiftShap", label, bound(_deep_lift_shap, SCENES[label]()))
        for layer in SCENES[label]().layers[:3]:
            yield Case("LayerDeepLift", f"{label}/{layer}", bound(_layer_lift, label, layer))
            run = bound(_layer_lift_shap, label, layer)
            yield Case("LayerDeepLiftShap", f"{label}/{layer}", run)
        for layer, selectors in SCENES[label]().neurons.items():
            for number, _ in enumerate(selectors):
                for kind in ("NeuronDeepLift", "NeuronDeepLiftShap", "NeuronGuidedBackprop", "NeuronDeconvolution"):
                    run = bound(_neuron, kind, *(label, layer, number))
                    yield Case(kind, f"{label}/{layer}/{number}", run)
    yield Case("DeepLift", "chain", _chain)
    yield Case("DeepLift", "custom-function", _custom)
    for label in ("residual", "recurrent", "two_inputs"):
        yield Case("DeepLift", f"functional/{label}", bound(_deep_lift, SCENES[label]()))


def _deep_lift(attr: Any, scene: Scene, **made: Any) -> object:
    explainer = attr.DeepLift(scene.model, **made)
    return explainer.attribute(**scene.call, baselines=scene.baselines, return_convergence_delta=True)


def _deep_lift_shap(attr: Any, scene: Scene) -> object:
    explainer = attr.DeepLiftShap(scene.model)
    return explainer.attribute(**scene.call, baselines=scene.distribution, return_convergence_delta=True)


def _layer_lift(attr: Any, label: str, layer: str) -> object:
    scene = SCENES[label]()
    explainer = attr.LayerDeepLift(scene.model, scene.layer(layer))
    return explainer.attribute(**scene.call, baselines=scene.baselines, return_convergence_delta=True)


def _layer_lift_shap(attr: Any, label: str, layer: str) -> object:
    scene = SCENES[label]()
    return attr.LayerDeepLiftShap(scene.model, scene.layer(layer)).attribute(**scene.call, baselines=scene.distribution)


def _neuron(attr: Any, kind: str, label: str, layer: str, number: int) -> object:
    scene = SCENES[label]()
    explainer = getattr(attr, kind)(scene.model, scene.layer(layer))
    options: dict[str, Any] = {"NeuronDeepLift": {"baselines": scene.baselines}}.get(kind, {})
    if kind == "NeuronDeepLiftShap":
        options = {"baselines": scene.distribution}
    return explainer.attribute(scene.inputs, scene.neurons[layer][number], **options)


def _chain(attr: Any) -> object:
    explainer = attr.DeepLift(seeded(Chain))
    return explainer.attribute(draw(4, 5), draw(4, 5, seed=2), target=1, return_convergence_delta=True)


def _custom(attr: Any) -> object:
    scene = SCENES["perceptron"]()

    def rule(multipliers: Any, inputs: Any, baselines: Any) -> Any:
        return tuple(m * (x - b) ** 2 for m, x, b in zip(multipliers, inputs, baselines, strict=True))

    return attr.DeepLift(scene.model).attribute(**scene.call, baselines=scene.baselines, custom_attribution_func=rule)


def relu_cases() -> Iterator[Case]:
    """Guided backprop, deconvolution and guided Grad-CAM."""
    for label in RELU_SCENES:
        for kind in ("GuidedBackprop", "Deconvolution"):
            yield Case(kind, label, bound(_modified_relu, kind, SCENES[label]()))
    for label, layers in (("conv_inplace", ("conv2", "pool1")), ("conv_pooled", ("conv1", "pool"))):
        for layer in layers:
            for mode in ("nearest", "bilinear"):
                run = bound(_guided, label, layer, mode)
                yield Case("GuidedGradCam", f"{label}/{layer}/{mode}", run)


def _modified_relu(attr: Any, kind: str, scene: Scene) -> object:
    return getattr(attr, kind)(scene.model).attribute(**scene.call)


def _guided(attr: Any, label: str, layer: str, mode: str) -> object:
    scene = SCENES[label]()
    return attr.GuidedGradCam(scene.model, scene.layer(layer)).attribute(**scene.call, interpolate_mode=mode)


def relevance_cases() -> Iterator[Case]:
    """LRP with each published rule, at the input and at layers."""
    for rule in ("EpsilonRule", "GammaRule", "Alpha1_Beta0_Rule"):
        run = bound(_ruled, (rule, rule, rule))
        yield Case("LRP", f"relu_only/{rule}", run, (f"{RULES}:{rule}",))
    mixed = ("Alpha1_Beta0_Rule", "GammaRule", "EpsilonRule")
    yield Case("LRP", "relu_only/mixed", bound(_ruled, mixed), tuple(f"{RULES}:{r}" for r in mixed))
    yield Case("LRP", "plain-conv", bound(_relevance, seeded(Plain), draw(2, 2, 8, 8)))
    yield Case("LRP", "toy", bound(_relevance, SCENES["toy"]().model, SCENES["toy"]().inputs))
    yield Case("LRP", "perceptron", bound(_relevance, SCENES["perceptron"]().model, draw(4, 5)))
    for layer in ("conv", "pool1", "conv2", "fc"):
        for side in (False, True):
            run = bound(_layer_relevance, layer, side)
            yield Case("LayerLRP", f"plain-conv/{layer}/{'input' if side else 'output'}", run)


def _relevance(attr: Any, model: nn.Module, inputs: torch.Tensor) -> object:
    return attr.LRP(model).attribute(inputs, target=1, return_convergence_delta=True)


def _ruled(attr: Any, rules: tuple[str, ...]) -> object:
    scene, home = SCENES["relu_only"](), importlib.import_module(RULES)
    for name, rule in zip(("first", "second", "last"), rules, strict=True):
        scene.layer(name).rule = getattr(home, rule)()
    return _relevance(attr, scene.model, scene.inputs.abs())


def _layer_relevance(attr: Any, layer: str, side: bool) -> object:
    model = seeded(Plain)
    explainer = attr.LayerLRP(model, model.get_submodule(layer))
    return explainer.attribute(draw(2, 2, 8, 8), target=1, attribute_to_layer_input=side, return_convergence_delta=True)


def rule_cases() -> Iterator[Case]:
    """Every case of this file."""
    yield from deep_lift_cases()
    yield from relu_cases()
    yield from relevance_cases()
