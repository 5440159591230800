"""Cases of the perturbation methods: ablation, permutation, occlusion, Shapley values, LIME, KernelSHAP."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.parity.case import Case, bound
from benchmarks.parity.models import draw
from benchmarks.parity.scenes import SCENES, Scene

PLAYERS = ("FeatureAblation", "ShapleyValueSampling", "ShapleyValues", "Lime", "KernelShap")


def masks() -> dict[str, Any]:
    """Feature masks of the perceptron's five features: shared, with gaps, one per row."""
    return {
        "none": None,
        "groups": torch.tensor([[0, 0, 1, 2, 2]]),
        "row": torch.tensor([0, 1, 1, 0, 2]),
        "gaps": torch.tensor([[1, 1, 4, 3, 3]]),
        "per-example": torch.tensor([[0, 0, 1, 1, 2], [0, 1, 2, 1, 2], [2, 1, 0, 0, 0], [1, 1, 1, 0, 2]]),
    }


def game_cases() -> Iterator[Case]:
    """Every player method × mask × packing on the perceptron, and on the other scenes."""
    for kind in PLAYERS:
        for label, mask in masks().items():
            for packed in (1, 3):
                run = bound(_game, kind, SCENES["perceptron"](), mask, packed)
                yield Case(kind, f"perceptron/mask={label}/packed={packed}", run)
        for label in ("toy", "perceptron64", "recurrent", "two_inputs"):
            run = bound(_game, kind, SCENES[label](), _few(SCENES[label]()), 2)
            yield Case(kind, label, run)
        run = bound(_game, kind, SCENES["two_inputs"](), _shared(), 1)
        yield Case(kind, "two_inputs/cross-tensor", run)
        for label, forward in (("scalar", _total), ("float", _float), ("matrix", SCENES["perceptron"]().model)):
            run = bound(_aggregate, kind, forward)
            yield Case(kind, f"output={label}", run)


def enumerated_cases() -> Iterator[Case]:
    """Kernel SHAP by default, with a budget for every coalition: the exact Shapley values."""
    for label, mask in masks().items():
        yield Case("KernelShap", f"perceptron/mask={label}/enumerated", bound(_enumerated, mask))


def _few(scene: Scene) -> Any:
    """A mask of at most four groups for any scene."""
    if isinstance(scene.inputs, tuple):
        return tuple(torch.arange(x[0].numel()).view(1, *x.shape[1:]) % 2 + 2 * i for i, x in enumerate(scene.inputs))
    return torch.arange(scene.inputs[0].numel()).view(1, *scene.inputs.shape[1:]) % 4


def _shared() -> tuple[Tensor, Tensor]:
    return torch.tensor([[0, 1, 2]]), torch.tensor([[[0, 0, 3], [1, 1, 3]]])


def _game(attr: Any, kind: str, scene: Scene, mask: Any, packed: int) -> object:
    options: dict[str, Any] = {"feature_mask": mask, "perturbations_per_eval": packed, "baselines": scene.baselines}
    if kind in ("ShapleyValueSampling", "Lime", "KernelShap"):
        options["n_samples"] = 12
    explainer = getattr(attr, kind)(scene.model)
    return explainer.attribute(**scene.call, **options, **_stream(explainer))


def _stream(explainer: Any) -> dict[str, str]:
    """The option that asks for the published random stream, where there is one."""
    options = inspect.signature(explainer.attribute).parameters
    return {"sampling": "upstream"} if "sampling" in options else {}


def _enumerated(attr: Any, mask: Any) -> object:
    """Kernel SHAP with as many samples as there are coalitions."""
    scene = SCENES["perceptron"]()
    return attr.KernelShap(scene.model).attribute(
        **scene.call, feature_mask=mask, n_samples=40, baselines=scene.baselines
    )


def _total(x: Tensor) -> Tensor:
    return torch.tanh(x).sum()


def _float(x: Tensor) -> float:
    return float((x**2).mean())


def _aggregate(attr: Any, kind: str, forward: Any) -> object:
    options = {"n_samples": 12} if kind in ("ShapleyValueSampling", "Lime", "KernelShap") else {}
    explainer = getattr(attr, kind)(forward)
    return explainer.attribute(draw(4, 5), **options, **_stream(explainer))


def permutation_cases() -> Iterator[Case]:
    """FeaturePermutation under the global stream and with a given permutation."""
    for label in ("toy", "perceptron", "two_inputs"):
        for packed in (1, 2):
            run = bound(_permutation, SCENES[label](), packed)
            yield Case("FeaturePermutation", f"{label}/packed={packed}", run)
    yield Case("FeaturePermutation", "given", bound(_permutation, SCENES["perceptron"](), 1, _roll))
    yield Case("FeaturePermutation", "groups", _permuted_groups)


def _roll(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x.roll(1, 0), x)


def _permutation(attr: Any, scene: Scene, packed: int, *rule: Any) -> object:
    return attr.FeaturePermutation(scene.model, *rule).attribute(**scene.call, perturbations_per_eval=packed)


def _permuted_groups(attr: Any) -> object:
    scene = SCENES["perceptron"]()
    return attr.FeaturePermutation(scene.model).attribute(**scene.call, feature_mask=masks()["groups"])


def occlusion_cases() -> Iterator[Case]:
    """Windows and strides in one, two and three dimensions, overhanging ones too."""
    images: dict[str, Any] = {
        "window": ((2, 3, 3), None),
        "stride": ((2, 3, 3), (2, 2, 2)),
        "int-stride": ((2, 4, 4), 2),
        "overhang": ((1, 3, 5), (1, 2, 3)),
        "whole": ((2, 8, 8), None),
    }
    for label, (window, strides) in images.items():
        for packed in (1, 4):
            run = bound(_occlude, "conv_inplace", window, strides, packed)
            yield Case("Occlusion", f"conv_inplace/{label}/packed={packed}", run)
    yield Case("Occlusion", "toy", bound(_occlude, "toy", (2,), None, 1))
    yield Case("Occlusion", "recurrent", bound(_occlude, "recurrent", (3, 4), (2, 1), 2))
    windows, strides = ((2,), (1, 2)), (1, (1, 1))
    yield Case("Occlusion", "two_inputs", bound(_occlude, "two_inputs", windows, strides, 1))


def _occlude(attr: Any, label: str, window: Any, strides: Any, packed: int) -> object:
    scene = SCENES[label]()
    return attr.Occlusion(scene.model).attribute(
        **scene.call,
        sliding_window_shapes=window,
        strides=strides,
        baselines=scene.baselines,
        perturbations_per_eval=packed,
    )


def place_game_cases() -> Iterator[Case]:
    """Ablation and permutation at layers and neurons; a metric over a loader."""
    for label in ("toy", "perceptron", "conv_inplace"):
        for layer in SCENES[label]().layers[:3]:
            run = bound(_layer_ablation, label, layer)
            yield Case("LayerFeatureAblation", f"{label}/{layer}", run)
        for layer, selectors in SCENES[label]().neurons.items():
            for number, _ in enumerate(selectors):
                run = bound(_neuron_ablation, label, layer, number)
                yield Case("NeuronFeatureAblation", f"{label}/{layer}/{number}", run)
    for layer in ("first", "tanh"):
        yield Case("LayerFeaturePermutation", f"sum/{layer}", bound(_layer_permutation, layer))
    for packed in (1, 2):
        run = bound(_loader, packed)
        yield Case("DataLoaderAttribution", f"metric/packed={packed}", run, ("FeatureAblation",))


def _layer_ablation(attr: Any, label: str, layer: str) -> object:
    scene = SCENES[label]()
    explainer = attr.LayerFeatureAblation(scene.model, scene.layer(layer))
    return explainer.attribute(scene.inputs, 0.1, scene.target)


def _neuron_ablation(attr: Any, label: str, layer: str, number: int) -> object:
    scene = SCENES[label]()
    explainer = attr.NeuronFeatureAblation(scene.model, scene.layer(layer))
    return explainer.attribute(scene.inputs, scene.neurons[layer][number], baselines=scene.baselines)


def _layer_permutation(attr: Any, layer: str) -> object:
    scene = SCENES["perceptron"]()
    forward = torch.nn.Sequential(scene.model, _Sum())
    return attr.LayerFeaturePermutation(forward, scene.layer(layer)).attribute(scene.inputs)


class _Sum(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """(N, C) to (N,)."""
        return x.sum(1)


def _loader(attr: Any, packed: int) -> object:
    scene = SCENES["perceptron"]()
    rows = DataLoader(TensorDataset(draw(10, 5)), batch_size=4)
    explainer = attr.DataLoaderAttribution(attr.FeatureAblation(scene.model))
    return explainer.attribute(rows, perturbations_per_pass=packed)


def published_cases() -> Iterator[Case]:
    """The calls whose numbers are published for the getting-started model."""
    yield Case("ShapleyValueSampling", "published", bound(_published, "ShapleyValueSampling", n_samples=25))
    yield Case("ShapleyValues", "published", bound(_published, "ShapleyValues"))
    yield Case("KernelShap", "published", bound(_published, "KernelShap", n_samples=25))
    yield Case("FeatureAblation", "published", bound(_published, "FeatureAblation"))
    run = bound(_published, "Occlusion", sliding_window_shapes=(2,))
    yield Case("Occlusion", "published", run)
    for row, samples in ((0, 25), (1, 100)):
        run = bound(_published, "Lime", slice(row, row + 1), n_samples=samples)
        yield Case("Lime", f"published/row={row}", run)
    yield Case("FeaturePermutation", "published", _published_permutation)


def _published_permutation(attr: Any) -> object:
    return attr.FeaturePermutation(SCENES["toy"]().model).attribute(torch.arange(12.0).view(4, 3) / 10, target=0)


def _published(attr: Any, kind: str, rows: slice = slice(None), **options: Any) -> object:
    scene = SCENES["toy"]()
    explainer = getattr(attr, kind)(scene.model)
    return explainer.attribute(scene.inputs[rows], target=0, **options, **_stream(explainer))


def perturbation_cases() -> Iterator[Case]:
    """Every case of this file."""
    yield from game_cases()
    yield from enumerated_cases()
    yield from permutation_cases()
    yield from occlusion_cases()
    yield from place_game_cases()
    yield from published_cases()
