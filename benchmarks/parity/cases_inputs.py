"""Cases of the gradient and path methods on the model's own inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.parity import models
from benchmarks.parity.case import Case, bound
from benchmarks.parity.models import draw, seeded
from benchmarks.parity.scenes import SCENES, Scene

METHODS = ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")


def _rows(inputs: Any) -> int:
    return inputs[0].shape[0] if isinstance(inputs, tuple) else inputs.shape[0]


def gradient_cases() -> Iterator[Case]:
    """Saliency and InputXGradient on every scene."""
    for label, build in SCENES.items():
        yield Case("Saliency", label, bound(_gradient, "Saliency", build()))
        yield Case("Saliency", f"{label}/signed", bound(_gradient, "Saliency", build(), abs=False))
        yield Case("InputXGradient", label, bound(_gradient, "InputXGradient", build()))


def _gradient(attr: Any, kind: str, scene: Scene, **options: Any) -> object:
    return getattr(attr, kind)(scene.model).attribute(**scene.call, **options)


def path_cases() -> Iterator[Case]:
    """IntegratedGradients: every quadrature, whole and in chunks; baselines; plain gradients averaged."""
    for label, build in SCENES.items():
        for method in METHODS:
            for chunk in (None, 4):
                name = f"{label}/{method}" + ("" if chunk is None else f"/internal_batch_size={chunk}")
                yield Case("IntegratedGradients", name, bound(_path, build(), method, chunk))
        name = f"{label}/no-multiply"
        yield Case("IntegratedGradients", name, bound(_path, build(), METHODS[0], None, False))
    for steps in (1, 2, 50):
        run = bound(_path, SCENES["perceptron"](), METHODS[0], None, True, steps)
        yield Case("IntegratedGradients", f"perceptron/steps={steps}", run)
    for label, baselines in _toy_baselines().items():
        run = bound(_toy_path, baselines)
        yield Case("IntegratedGradients", f"toy/baseline={label}", run)


def _path(attr: Any, scene: Scene, method: str, chunk: int | None, multiply: bool = True, steps: int = 7) -> object:
    explainer = attr.IntegratedGradients(scene.model, multiply_by_inputs=multiply)
    return explainer.attribute(
        **scene.call,
        baselines=scene.baselines,
        n_steps=steps,
        method=method,
        internal_batch_size=None if chunk is None else chunk * _rows(scene.inputs),
        return_convergence_delta=True,
    )


def _toy_baselines() -> dict[str, Any]:
    return {
        "none": None,
        "int": 1,
        "float": 0.3,
        "row": torch.full((1, 3), 0.1),
        "full": draw(2, 3),
        "one-tuple": (0.3,),
    }


def _toy_path(attr: Any, baselines: Any) -> object:
    scene = SCENES["toy"]()
    inputs = (scene.inputs,) if isinstance(baselines, tuple) else scene.inputs
    return attr.IntegratedGradients(scene.model).attribute(
        inputs, baselines, 0, n_steps=6, return_convergence_delta=True
    )


def target_cases() -> Iterator[Case]:
    """Every form of target, on outputs of one, two, three and four dimensions."""
    for label, target in _flat_targets().items():
        for kind in ("Saliency", "IntegratedGradients", "FeatureAblation"):
            yield Case(kind, f"target/{label}", bound(_targeted, kind, target))
    for label, target in _step_targets().items():
        for kind in ("Saliency", "IntegratedGradients", "FeatureAblation"):
            yield Case(kind, f"target/steps/{label}", bound(_stepped, kind, target))
    for label, forward in (("row", _row_score), ("column", _column_score)):
        for kind in ("Saliency", "IntegratedGradients", "InputXGradient"):
            yield Case(kind, f"target/none/{label}", bound(_untargeted, kind, forward))
    yield Case("Saliency", "target/map", _mapped)


def _flat_targets() -> dict[str, Any]:
    return {
        "int": 2,
        "negative": -2,
        "scalar-tensor": torch.tensor(1),
        "one-element-tensor": torch.tensor([1]),
        "row-tensor": torch.tensor([2, 0, 1, 1]),
        "row-list": [2, 0, 1, 1],
        "tuple": (1,),
        "row-tuples": [(2,), (0,), (1,), (1,)],
    }


def _step_targets() -> dict[str, Any]:
    return {"tuple": (3, 1), "negative": (-1, -2), "row-tuples": [(0, 1), (4, 2)]}


def _targeted(attr: Any, kind: str, target: Any) -> object:
    scene = SCENES["perceptron"]()
    return getattr(attr, kind)(scene.model).attribute(scene.inputs, target=target)


def _stepped(attr: Any, kind: str, target: Any) -> object:
    scene = SCENES["vectors"]()
    return getattr(attr, kind)(scene.model).attribute(scene.inputs, target=target)


def _row_score(x: Tensor) -> Tensor:
    return (torch.sin(x) * x).sum((1, 2))


def _column_score(x: Tensor) -> Tensor:
    return torch.tanh(x).sum((1, 2))[:, None]


def _untargeted(attr: Any, kind: str, forward: Any) -> object:
    return getattr(attr, kind)(forward).attribute(draw(3, 2, 4))


def _mapped(attr: Any) -> object:
    model = seeded(models.FunctionalResNet).stem
    return attr.Saliency(model).attribute(draw(2, 3, 10, 10), target=(1, 2, 3))


def shap_cases() -> Iterator[Case]:
    """GradientShap under the global random streams."""
    for label, build in SCENES.items():
        for stdevs in (0.0, 0.1):
            run = bound(_shap, build(), stdevs)
            yield Case("GradientShap", f"{label}/stdevs={stdevs}", run)
        yield Case("GradientShap", f"{label}/no-multiply", bound(_shap, build(), 0.05, False))
    yield Case("GradientShap", "two_inputs/stdevs-tuple", bound(_shap, SCENES["two_inputs"](), (0.1, 0.3)))
    for label, baselines in (("no-argument", _fixed), ("from-inputs", _shifted)):
        yield Case("GradientShap", f"perceptron/callable/{label}", bound(_shap_from, baselines))


def _shap(attr: Any, scene: Scene, stdevs: Any, multiply: bool = True) -> object:
    explainer = attr.GradientShap(scene.model, multiply_by_inputs=multiply)
    return explainer.attribute(
        **scene.call, baselines=scene.distribution, n_samples=4, stdevs=stdevs, return_convergence_delta=True
    )


def _fixed() -> Tensor:
    return draw(6, 5, seed=9)


def _shifted(inputs: Tensor) -> Tensor:
    return inputs * 0.5


def _shap_from(attr: Any, baselines: Any) -> object:
    scene = SCENES["perceptron"]()
    return attr.GradientShap(scene.model).attribute(**scene.call, baselines=baselines, n_samples=3, stdevs=0.2)


def noise_cases() -> Iterator[Case]:
    """NoiseTunnel: three moments, several methods, chunks, drawn baselines, deltas."""
    for label in ("toy", "perceptron", "perceptron64", "conv_inplace", "residual", "recurrent", "two_inputs"):
        for kind in ("smoothgrad", "smoothgrad_sq", "vargrad"):
            for method in ("Saliency", "InputXGradient", "IntegratedGradients"):
                run = bound(_noise, label, kind, method)
                yield Case("NoiseTunnel", f"{method}/{label}/{kind}", run, (method,))
    for chunk in (1, 2, 5, 9):
        run = bound(_noise, "perceptron", "smoothgrad", "Saliency", nt_samples_batch_size=chunk)
        yield Case("NoiseTunnel", f"Saliency/perceptron/chunk={chunk}", run)
    yield Case("NoiseTunnel", "GradientShap/perceptron", _noise_shap, ("GradientShap",))
    yield Case("NoiseTunnel", "LayerGradientXActivation/perceptron", _noise_layer, ("LayerGradientXActivation",))
    yield Case("NoiseTunnel", "stdevs-tuple", bound(_noise, "two_inputs", stdevs=(0.1, 0.4)))
    for chunk in (None, 2):
        run = bound(_noise_delta, chunk)
        yield Case("NoiseTunnel", f"IntegratedGradients/delta/chunk={chunk}", run, ("IntegratedGradients",))
    yield Case("NoiseTunnel", "IntegratedGradients/drawn-baselines", _noise_drawn, ("IntegratedGradients",))
    yield Case("NoiseTunnel", "FeatureAblation/perceptron", _noise_ablation, ("FeatureAblation",))


def _noise(
    attr: Any, scene_name: str, kind: str = "smoothgrad", method: str = "Saliency", stdevs: Any = 0.2, **options: Any
) -> object:
    scene = SCENES[scene_name]()
    if method == "IntegratedGradients":
        options |= {"baselines": scene.baselines, "n_steps": 6}
    tunnel = attr.NoiseTunnel(getattr(attr, method)(scene.model))
    return tunnel.attribute(**scene.call, nt_type=kind, nt_samples=5, stdevs=stdevs, **options)


def _noise_shap(attr: Any) -> object:
    scene = SCENES["perceptron"]()
    tunnel = attr.NoiseTunnel(attr.GradientShap(scene.model))
    return tunnel.attribute(**scene.call, nt_samples=3, stdevs=0.2, baselines=scene.distribution[:4], n_samples=2)


def _noise_layer(attr: Any) -> object:
    scene = SCENES["perceptron"]()
    tunnel = attr.NoiseTunnel(attr.LayerGradientXActivation(scene.model, scene.layer("tanh")))
    return tunnel.attribute(**scene.call, nt_samples=3, stdevs=0.2)


def _noise_delta(attr: Any, chunk: int | None) -> object:
    scene = SCENES["perceptron"]()
    return attr.NoiseTunnel(attr.IntegratedGradients(scene.model)).attribute(
        **scene.call, nt_samples=5, nt_samples_batch_size=chunk, stdevs=0.2, n_steps=6, return_convergence_delta=True
    )


def _noise_drawn(attr: Any) -> object:
    scene = SCENES["perceptron"]()
    return attr.NoiseTunnel(attr.IntegratedGradients(scene.model)).attribute(
        **scene.call,
        nt_samples=4,
        stdevs=0.2,
        n_steps=6,
        baselines=scene.distribution,
        draw_baseline_from_distrib=True,
    )


def _noise_ablation(attr: Any) -> object:
    scene = SCENES["perceptron"]()
    mask = torch.tensor([[0, 0, 1, 2, 2]])
    tunnel = attr.NoiseTunnel(attr.FeatureAblation(scene.model))
    return tunnel.attribute(**scene.call, nt_samples=4, stdevs=0.2, feature_mask=mask)


def dtype_cases() -> Iterator[Case]:
    """Half precision and float64 on the methods of this file."""
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        label = str(dtype).removeprefix("torch.")
        for kind in ("Saliency", "InputXGradient", "IntegratedGradients", "GradientShap"):
            yield Case(kind, f"dtype/{label}", bound(_typed, kind, dtype))


def _typed(attr: Any, kind: str, dtype: torch.dtype) -> object:
    scene = SCENES["perceptron"]()
    explainer = getattr(attr, kind)(scene.model.to(dtype))
    options = {"baselines": scene.distribution.to(dtype)} if kind == "GradientShap" else {}
    return explainer.attribute(scene.inputs.to(dtype), target=1, **options)


def input_cases() -> Iterator[Case]:
    """Every case of this file."""
    yield from gradient_cases()
    yield from path_cases()
    yield from target_cases()
    yield from shap_cases()
    yield from noise_cases()
    yield from dtype_cases()
