"""Cases of the pieces around the methods: statistics, baselines, tokens, surrogates, pictures, golden sequences."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.parity import models
from benchmarks.parity.case import Case, bound
from benchmarks.parity.models import draw
from benchmarks.parity.scenes import toy_input

STATS = ("Mean", "Var", "StdDev", "MSE", "Min", "Max", "Sum", "Count")
LINEAR = "captum._utils.models.linear_model"


def stat_cases() -> Iterator[Case]:
    """Each statistic over updates of one tensor, of a tuple and of integers; names; classes."""
    integers = [torch.tensor([step, 2 * step]) for step in range(4)]
    for name in STATS:
        for label, updates in (("tensor", _series(3, 2)), ("integers", integers), ("once", [draw(4)])):
            yield Case("Summarizer", f"{name}/{label}", bound(_summary, ((name, {}),), updates), (name,))
    for name, orders in (("Var", (0, 1, 2)), ("StdDev", (0, 1))):
        for order in orders:
            run = bound(_summary, ((name, {"order": order}),), _series(3))
            yield Case("Summarizer", f"{name}/order={order}", run, (name,))
    yield Case("CommonStats", "tensor", bound(_summary, (), _series(3)), ("Summarizer",))
    pairs = [(draw(3, seed=step), draw(2, 2, seed=step + 9)) for step in range(4)]
    yield Case("Summarizer", "tuple", bound(_summary, (("Mean", {}), ("Max", {})), pairs), ("Mean", "Max"))
    yield Case("Summarizer", "empty", bound(_summary, (("Mean", {}),), []), ("Mean",))
    for form in ("list", "one"):
        yield Case("ClassSummarizer", form, bound(_classes, form), ("CommonStats",))


def _series(*shape: int) -> list[Tensor]:
    return [draw(*shape, seed=step) for step in range(5)]


def _summary(attr: Any, stats: tuple[tuple[str, dict[str, Any]], ...], updates: list[Any]) -> object:
    kinds = [getattr(attr, name)(**options) for name, options in stats] if stats else attr.CommonStats()
    summarizer = attr.Summarizer(kinds)
    for update in updates:
        summarizer.update(update)
    return summarizer.summary


def _classes(attr: Any, form: str) -> object:
    summarizer = attr.ClassSummarizer(attr.CommonStats())
    for step, labels in enumerate((["a", "b", "a"], ["b", "b", "c"])):
        summarizer.update(draw(3, 2, seed=step), labels if form == "list" else labels[:1])
    return [summarizer.summary, dict(sorted(summarizer.class_summaries.items()))]


def helper_cases() -> Iterator[Case]:
    """Reference tokens and baselines drawn from products."""
    yield Case("TokenReferenceBase", "reference", _reference)
    slots: dict[str, Any] = {
        "list": [[1, 2, 3], [4, 5], [6.5, 7.5, 8.5, 9.5]],
        "dict": {"a": [1, 2, 3], ("b", "c"): [(4, 5), (6, 7), (8, 9)]},
    }
    for label, values in slots.items():
        yield Case("ProductBaselines", label, bound(_samples, values))


def _reference(attr: Any) -> object:
    return attr.TokenReferenceBase(3).generate_reference(5, torch.device("cpu"))


def _samples(attr: Any, values: Any) -> object:
    baselines = attr.ProductBaselines(values)
    return [_plain(baselines()) for _ in range(6)] + [_plain(baselines.sample()) for _ in range(3)]


def _plain(sample: Any) -> object:
    return [float(v) for v in (sample.values() if isinstance(sample, dict) else sample)]


def linear_cases() -> Iterator[Case]:
    """The linear surrogates, fitted to weighted rows."""
    fits: dict[str, dict[str, Any]] = {
        "SkLearnLinearRegression": {},
        "SkLearnLasso": {"alpha": 0.01},
        "SkLearnRidge": {"alpha": 0.3},
        "SGDLinearRegression": {},
        "SGDLasso": {},
        "SGDRidge": {},
    }
    for name, options in fits.items():
        yield Case(f"{LINEAR}:{name}", "weighted", bound(_fit, name, options, True))
        yield Case(f"{LINEAR}:{name}", "plain", bound(_fit, name, options, False))
        if name.startswith("SGD"):
            yield Case(f"{LINEAR}:{name}", "stopped", bound(_fit, name, options, True, stop=True))
    for name in ("SkLearnLogisticRegression", "SkLearnSGDClassifier"):
        yield Case(f"{LINEAR}.model:{name}", "classes", bound(_classify, name))


def _rows(weighted: bool, labels: Tensor) -> list[tuple[Tensor, ...]]:
    weights = torch.linspace(0.5, 2.0, 40)
    return [(draw(40, 3), labels, weights) if weighted else (draw(40, 3), labels)]


def _fit(_: Any, name: str, options: dict[str, Any], weighted: bool, stop: bool = False) -> object:
    model = getattr(importlib.import_module(LINEAR), name)(**options)
    labels = draw(40, 3) @ torch.tensor([1.0, -2.0, 0.5]) + 0.3 + 0.1 * draw(40, seed=5)
    fit_options: dict[str, Any] = {}
    if name.startswith("SGD"):
        rest = {} if stop else {"reduce_lr": False, "patience": 1000}
        fit_options = {"initial_lr": 0.1, "max_epoch": 60 + 40 * stop, **rest}
    model.fit(_rows(weighted, labels), **fit_options)
    return [model.representation(), model.bias(), model(draw(4, 3, seed=8))]


def _classify(_: Any, name: str) -> object:
    options = {"random_state": 0} if "SGD" in name else {}
    model = getattr(importlib.import_module(f"{LINEAR}.model"), name)(**options)
    labels = (draw(40, 3) @ torch.tensor([1.0, -2.0, 0.5]) > 0).long()
    model.fit(_rows(False, labels))
    return [model.representation(), model.bias(), model.classes()]


def picture_cases() -> Iterator[Case]:
    """The numbers behind the pictures: what is drawn for each sign and outlier share."""
    maps = {"flat": draw(6, 5).numpy(), "channels": draw(6, 5, 3).numpy()}
    for sign in ("all", "positive", "negative", "absolute_value"):
        for share in (0, 2, 30):
            for label, values in maps.items():
                run = bound(_heat, values, sign, share)
                yield Case("visualization", f"heat_map/{label}/{sign}/outliers={share}", run)
    for method in ("blended_heat_map", "original_image", "masked_image", "alpha_scaling"):
        yield Case("visualization", method, bound(_overlay, method))
    yield Case("visualization", "format_classname", _class_name)
    yield Case("visualization", "format_word_importances", _colours)


def _heat(attr: Any, values: np.ndarray, sign: str, share: int) -> object:
    _, axes = attr.visualization.visualize_image_attr(values, sign=sign, outlier_perc=share, use_pyplot=False)
    return _drawn(axes)


def _overlay(attr: Any, method: str) -> object:
    image = torch.rand(6, 5, 3, generator=torch.Generator().manual_seed(3)).numpy()
    _, axes = attr.visualization.visualize_image_attr(
        draw(6, 5, 3).numpy(), image, method=method, sign="positive", use_pyplot=False
    )
    return _drawn(axes)


def _drawn(axes: Any) -> object:
    return [np.ma.getdata(image.get_array()).astype(np.float64) for image in axes.images]


def _class_name(attr: Any) -> object:
    return re.sub("<[^>]*>", "", attr.visualization.format_classname("cat"))


def _colours(attr: Any) -> object:
    html = attr.visualization.format_word_importances(["a", "b", "c", "d", "e"], [-1.2, -0.4, 0.0, 0.3, 1.0])
    return [float(number) for number in re.findall(r"hsl\(\s*\d+\s*,\s*\d+%\s*,\s*(\d+)", html)]


def golden_cases() -> Iterator[Case]:
    """The getting-started sequence in one stream, and single calls on its model, whose numbers are published."""
    yield Case(
        "IntegratedGradients", "published/sequence", _sequence, ("GradientShap", "NoiseTunnel", "LayerConductance")
    )
    for kind in ("IntegratedGradients", "Saliency", "InputXGradient"):
        yield Case(kind, "published", bound(_single, kind, ""))
    for kind in ("LayerActivation", "LayerGradientXActivation", "InternalInfluence", "NeuronIntegratedGradients"):
        yield Case(kind, "published", bound(_single, kind, "lin1"))
    yield Case("LayerIntegratedGradients", "published", bound(_single, "LayerIntegratedGradients", "relu"))
    for kind, layer in (("GradientShap", ""), ("LayerGradientShap", "lin1"), ("NeuronGradientShap", "lin1")):
        yield Case(kind, "published", bound(_single, kind, layer))
    for moment in ("smoothgrad", "smoothgrad_sq", "vargrad"):
        yield Case("NoiseTunnel", f"published/{moment}", bound(_tunnel, moment), ("Saliency",))
    wrapper = "captum.attr._utils.input_layer_wrapper:ModelInputWrapper"
    yield Case("LayerIntegratedGradients", "wrapped-inputs", _wrapped, (wrapper,))


def _single(attr: Any, kind: str, layer: str) -> object:
    model, x = models.seeded(models.Toy), toy_input()
    options: dict[str, Any] = {} if kind == "LayerActivation" else {"target": 0}
    if kind.startswith("Neuron"):
        options = {"neuron_selector": 1}
    if kind.endswith("GradientShap"):
        options |= {"baselines": draw(10, 3, seed=7) * 0.001, "n_samples": 5, "stdevs": 0.1}
    where = (model.get_submodule(layer),) if layer else ()
    return getattr(attr, kind)(model, *where).attribute(x, **options)


def _tunnel(attr: Any, moment: str) -> object:
    tunnel = attr.NoiseTunnel(attr.Saliency(models.seeded(models.Toy)))
    return tunnel.attribute(toy_input(), nt_type=moment, nt_samples=5, stdevs=0.2, target=0)


def _sequence(attr: Any) -> object:
    model, x, zeros = models.seeded(models.Toy), torch.rand(2, 3), torch.zeros(2, 3)
    path = attr.IntegratedGradients(model)
    first = path.attribute(x, zeros, target=0, return_convergence_delta=True)
    many = torch.randn(10, 3) * 0.001
    shap = attr.GradientShap(model)
    second = shap.attribute(x, stdevs=0.09, n_samples=4, baselines=many, target=0, return_convergence_delta=True)
    third = attr.NoiseTunnel(path).attribute(
        x, nt_type="smoothgrad", stdevs=0.02, nt_samples=4, baselines=zeros, target=0, return_convergence_delta=True
    )
    conductance = attr.LayerConductance(model, model.lin1)
    fourth = conductance.attribute(x, baselines=zeros, target=0, return_convergence_delta=True)
    return [x, first, second, third, fourth[0]]


def _wrapped(attr: Any) -> object:
    home = importlib.import_module("captum.attr._utils.input_layer_wrapper")

    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a * b + torch.sin(b)).sum(1)

    wrapped = home.ModelInputWrapper(Sum())
    layers = [wrapped.input_maps["a"], wrapped.input_maps["b"]]
    return attr.LayerIntegratedGradients(wrapped, layers).attribute((toy_input(), draw(2, 3)), n_steps=8)


def piece_cases() -> Iterator[Case]:
    """Every case of this file."""
    yield from stat_cases()
    yield from helper_cases()
    yield from linear_cases()
    yield from picture_cases()
    yield from golden_cases()
