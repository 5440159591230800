"""Cases of mistaken calls: what is refused there is refused here, by an error that the same ``except`` catches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.parity.case import Case, bound
from benchmarks.parity.models import draw
from benchmarks.parity.scenes import SCENES


def refusal_cases() -> Iterator[Case]:
    """Mistakes in inputs, targets, baselines and options."""
    yield from _targets()
    yield from _baselines()
    yield from _options()
    yield from _places()


def rows() -> torch.Tensor:
    """Fresh inputs for each call: a refused call of the published package leaves traces on them."""
    return draw(4, 5)


def _targets() -> Iterator[Case]:
    wrong: dict[str, Any] = {
        "missing": None,
        "short-list": [0, 1],
        "long-list": [0, 1, 2, 0, 1],
        "float": 1.5,
        "float-tensor": torch.tensor([0.0, 1.0, 2.0, 0.0]),
        "tensor-shape": torch.zeros(2, 2, dtype=torch.long),
        "strings": ["a", "b", "c", "d"],
        "too-deep": (1, 2, 3),
        "too-large": 7,
        "large-list": [0, 1, 2, 9],
    }
    for label, target in wrong.items():
        for kind in ("Saliency", "IntegratedGradients", "FeatureAblation"):
            if (kind, label) == ("FeatureAblation", "missing"):
                continue
            run = bound(_call, kind, rows(), target=target)
            yield Case(kind, f"refused/target/{label}", run)


def _baselines() -> Iterator[Case]:
    wrong: dict[str, Any] = {
        "count": (0, 0),
        "shape": torch.zeros(3),
        "rows": torch.zeros(2, 5),
        "list": [0.0] * 5,
        "string": "zero",
    }
    for label, baselines in wrong.items():
        run = bound(_call, "IntegratedGradients", rows(), target=1, baselines=baselines)
        yield Case("IntegratedGradients", f"refused/baseline/{label}", run)
    for label, baselines in (("none", None), ("number", 0.0)):
        run = bound(_call, "GradientShap", rows(), target=1, baselines=baselines)
        yield Case("GradientShap", f"refused/baseline/{label}", run)
    for label, inputs in (("list", [rows()]), ("array", rows().numpy()), ("list-in-tuple", ([1.0],))):
        for kind in ("Saliency", "IntegratedGradients", "FeatureAblation"):
            yield Case(kind, f"refused/inputs/{label}", bound(_call, kind, inputs, target=1))


def _options() -> Iterator[Case]:
    wrong: dict[str, tuple[str, dict[str, Any]]] = {
        "method": ("IntegratedGradients", {"method": "simpson"}),
        "one-step": ("IntegratedGradients", {"method": "riemann_left", "n_steps": 1}),
        "no-steps": ("IntegratedGradients", {"n_steps": 0}),
        "negative-steps": ("IntegratedGradients", {"n_steps": -3}),
        "unknown-keyword": ("Saliency", {"n_steps": 3}),
        "int-stdevs": ("GradientShap", {"baselines": draw(3, 5), "stdevs": 1}),
        "stdevs-count": ("GradientShap", {"baselines": draw(3, 5), "stdevs": (0.1, 0.2)}),
        "packing-zero": ("FeatureAblation", {"perturbations_per_eval": 0}),
        "packing-float": ("FeatureAblation", {"perturbations_per_eval": 1.5}),
        "window": ("Occlusion", {"sliding_window_shapes": (9,)}),
        "window-rank": ("Occlusion", {"sliding_window_shapes": (2, 2)}),
        "stride": ("Occlusion", {"sliding_window_shapes": (2,), "strides": 3}),
        "one-baseline": ("DeepLiftShap", {"baselines": draw(1, 5)}),
        "mask-shape": ("ShapleyValueSampling", {"feature_mask": torch.zeros(1, 4, dtype=torch.long)}),
    }
    for label, (kind, options) in wrong.items():
        run = bound(_call, kind, rows(), target=1, **options)
        yield Case(kind, f"refused/{label}", run)
    for label, options in (
        ("type", {"nt_type": "mean"}),
        ("int-stdevs", {"stdevs": 1}),
        ("count", {"stdevs": (0.1, 0.2)}),
    ):
        run = bound(_tunnel, options)
        yield Case("NoiseTunnel", f"refused/{label}", run)


def _places() -> Iterator[Case]:
    for kind in ("NeuronGradient", "NeuronIntegratedGradients"):
        for label, selector in (("too-deep", (1, 2, 3)), ("too-large", 99), ("string", "a")):
            run = bound(_neuron, kind, selector)
            yield Case(kind, f"refused/selector/{label}", run)
    for kind in ("LayerActivation", "LayerGradientXActivation", "LayerGradCam", "LayerIntegratedGradients"):
        yield Case(kind, "refused/unreached-layer", bound(_unreached, kind))
    for kind in ("GuidedBackprop", "Deconvolution"):
        yield Case(kind, "refused/not-a-module", bound(_not_a_module, kind))
    yield Case("NeuronGradient", "refused/several-tensors", bound(_split, "NeuronGradient"))


def _call(attr: Any, kind: str, inputs: Any, **options: Any) -> object:
    return getattr(attr, kind)(SCENES["perceptron"]().model).attribute(inputs, **options)


def _tunnel(attr: Any, options: dict[str, Any]) -> object:
    explainer = attr.NoiseTunnel(attr.Saliency(SCENES["perceptron"]().model))
    return explainer.attribute(rows(), target=1, **options)


def _neuron(attr: Any, kind: str, selector: Any) -> object:
    scene = SCENES["perceptron"]()
    return getattr(attr, kind)(scene.model, scene.layer("tanh")).attribute(rows(), selector)


def _unreached(attr: Any, kind: str) -> object:
    explainer = getattr(attr, kind)(SCENES["perceptron"]().model, torch.nn.Linear(2, 2))
    return explainer.attribute(rows()) if kind == "LayerActivation" else explainer.attribute(rows(), target=1)


def _not_a_module(attr: Any, kind: str) -> object:
    return getattr(attr, kind)(torch.sin).attribute(rows())


def _split(attr: Any, kind: str) -> object:
    scene = SCENES["split_layers"]()
    return getattr(attr, kind)(scene.model, scene.layer("split")).attribute(scene.inputs, 1)
