"""Cases of the gradient and path methods at layers and neurons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.parity.case import Case, bound
from benchmarks.parity.models import draw
from benchmarks.parity.scenes import SCENES, Scene, tokens

SIDES = (False, True)
LISTS = {"toy": ("lin1", "relu"), "conv_inplace": ("conv1", "pool1", "fc"), "residual": ("block1", "block2.conv2")}
FINE = (
    ("toy", "lin1"),
    ("perceptron", "tanh"),
    ("conv_inplace", "conv1"),
    ("residual", "block1"),
    ("vectors", "block1"),
)
STEPS = 6


def layer_cases() -> Iterator[Case]:
    """Every layer method on every layer of every scene, at its output and at its input."""
    for label, build in SCENES.items():
        for layer in build().layers:
            for side in SIDES:
                place = f"{label}/{layer}/{'input' if side else 'output'}"
                yield from _layer_family(place, label, layer, side)
    for label, layer in FINE:
        run = bound(_layer, "LayerConductance", SCENES[label](), layer, False, {"n_steps": 400})
        yield Case("LayerConductance", f"fine/{label}/{layer}", run)
    for label, layers in LISTS.items():
        for kind in ("LayerActivation", "LayerGradientXActivation"):
            run = bound(_layer, kind, SCENES[label](), layers, False)
            yield Case(kind, f"{label}/list", run)
    for kind in ("LayerActivation", "LayerGradientXActivation", "LayerIntegratedGradients"):
        run = bound(_layer, kind, SCENES["perceptron"](), ("tanh",), False)
        yield Case(kind, "perceptron/list-of-one", run)


def _layer_family(place: str, label: str, layer: str, side: bool) -> Iterator[Case]:
    kinds: dict[str, dict[str, dict[str, Any]]] = {
        "LayerActivation": {"": {}},
        "LayerGradientXActivation": {"": {}, "/no-multiply": {"multiply_by_inputs": False}},
        "LayerGradCam": {"": {}, "/relu": {"relu_attributions": True}, "/channels": {"attr_dim_summation": False}},
        "LayerIntegratedGradients": {"": {}, "/chunked": {"internal_batch_size": 6}},
        "LayerConductance": {
            "": {},
            "/trapezoid": {"method": "riemann_trapezoid"},
            "/chunked": {"internal_batch_size": 9},
        },
        "InternalInfluence": {"": {}, "/chunked": {"internal_batch_size": 6}, "/left": {"method": "riemann_left"}},
        "LayerGradientShap": {"": {}, "/noisy": {"stdevs": 0.1}},
    }
    for kind, variants in kinds.items():
        for variant, options in variants.items():
            run = bound(_layer, kind, SCENES[label](), layer, side, options)
            yield Case(kind, place + variant, run)


def _layer(attr: Any, kind: str, scene: Scene, name: str | tuple[str, ...], side: bool, options: Any = None) -> object:
    where = [scene.layer(n) for n in name] if isinstance(name, tuple) else scene.layer(name)
    arguments = dict(options or {})
    made = {key: arguments.pop(key) for key in ("multiply_by_inputs",) if key in arguments}
    explainer = getattr(attr, kind)(scene.model, where, **made)
    arguments |= {"attribute_to_layer_input": side}
    if kind == "LayerActivation":
        return explainer.attribute(scene.inputs, additional_forward_args=scene.extra, **arguments)
    if kind in ("LayerIntegratedGradients", "LayerConductance", "InternalInfluence"):
        arguments = {"baselines": scene.baselines, "n_steps": STEPS} | arguments
    if kind == "LayerGradientShap":
        arguments |= {"baselines": scene.distribution, "n_samples": 3}
    if kind in ("LayerIntegratedGradients", "LayerConductance", "LayerGradientShap"):
        arguments |= {"return_convergence_delta": True}
    return explainer.attribute(**scene.call, **arguments)


def neuron_cases() -> Iterator[Case]:
    """Every neuron method, every selector of every scene, both sides."""
    kinds = {
        "NeuronGradient": {"": {}},
        "NeuronIntegratedGradients": {"": {}, "/chunked": {"internal_batch_size": 6}},
        "NeuronConductance": {
            "": {},
            "/gausslegendre": {"method": "gausslegendre"},
            "/middle-chunked": {"method": "riemann_middle", "internal_batch_size": 6},
        },
        "NeuronGradientShap": {"": {}},
    }
    for label, build in SCENES.items():
        for layer, selectors in build().neurons.items():
            for number, selector in enumerate(selectors):
                shown = "callable" if callable(selector) else _shown(selector)
                for kind, variants in kinds.items():
                    for variant, options in variants.items():
                        spot = (label, layer, number)
                        run = bound(_neuron, kind, spot, options)
                        yield Case(kind, f"{label}/{layer}[{shown}]{variant}", run)
    for kind in ("NeuronGradient", "NeuronIntegratedGradients"):
        run = bound(_neuron, kind, ("perceptron", "second", 0), {"attribute_to_neuron_input": True})
        yield Case(kind, "perceptron/second[5]/input", run)


def _shown(selector: Any) -> str:
    parts = selector if isinstance(selector, tuple) else (selector,)
    return ",".join(f"{p.start}:{p.stop}" if isinstance(p, slice) else str(p) for p in parts)


def _neuron(attr: Any, kind: str, spot: tuple[str, str, int], options: dict[str, Any]) -> object:
    scene = SCENES[spot[0]]()
    selector = scene.neurons[spot[1]][spot[2]]
    explainer = getattr(attr, kind)(scene.model, scene.layer(spot[1]))
    arguments: dict[str, Any] = {"additional_forward_args": scene.extra, **options}
    if kind in ("NeuronIntegratedGradients", "NeuronConductance"):
        arguments |= {"baselines": scene.baselines, "n_steps": STEPS}
    if kind == "NeuronConductance":
        arguments |= {"target": scene.target}
    if kind == "NeuronGradientShap":
        arguments |= {"baselines": scene.distribution, "n_samples": 3, "stdevs": 0.1}
    return explainer.attribute(scene.inputs, selector, **arguments)


def token_cases() -> Iterator[Case]:
    """Layer methods on embeddings of token ids, with a mask as a constant argument; ids in, tensors of steps out."""
    for layer in ("tokens", "block1", "block1.norm1", "block2"):
        for kind in ("LayerActivation", "LayerGradientXActivation", "LayerIntegratedGradients"):
            run = bound(_tokens, kind, layer)
            yield Case(kind, f"tokens/{layer}", run)
    yield Case("LayerIntegratedGradients", "tokens/list", bound(_tokens, "LayerIntegratedGradients", None))
    yield Case("FeatureAblation", "tokens", bound(_tokens, "FeatureAblation", ""))
    yield Case("Saliency", "embedded", _embedded)
    yield Case("configure_interpretable_embedding_layer", "tokens", _replaced_embedding, ("IntegratedGradients",))
    yield Case("LayerIntegratedGradients", "tokens/positional", _position_embedding)


def _tokens(attr: Any, kind: str, layer: str | None) -> object:
    model, ids, reference, mask = tokens()
    arguments: dict[str, Any] = {"additional_forward_args": mask}
    if kind == "LayerActivation":
        return attr.LayerActivation(model, model.get_submodule(layer or "")).attribute(ids, mask)
    if kind == "FeatureAblation":
        return attr.FeatureAblation(model).attribute(ids, reference, target=1, **arguments)
    if kind == "LayerIntegratedGradients":
        arguments |= {"baselines": reference, "n_steps": STEPS, "return_convergence_delta": True}
    where = [model.tokens, model.positions] if layer is None else model.get_submodule(layer)
    return getattr(attr, kind)(model, where).attribute(ids, target=1, **arguments)


def _position_embedding(attr: Any) -> object:
    model, ids, reference, mask = tokens()
    explainer = attr.LayerIntegratedGradients(model, model.positions, multiply_by_inputs=False)
    return explainer.attribute(ids, reference, target=0, additional_forward_args=mask, n_steps=STEPS)


def _embedded(attr: Any) -> object:
    model, ids, _, mask = tokens()
    block, head = model.get_submodule("block1"), model.get_submodule("head")

    def forward(x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return head(block(x, m).mean(1))

    return attr.Saliency(forward).attribute(model.get_submodule("tokens")(ids).detach(), 2, False, mask)


def _replaced_embedding(attr: Any) -> object:
    model, ids, reference, mask = tokens()
    emb = attr.configure_interpretable_embedding_layer(model, "tokens")
    inputs, start = emb.indices_to_embeddings(ids), emb.indices_to_embeddings(reference)
    explained = attr.IntegratedGradients(lambda x, m: _without_positions(model, x, m))
    values = explained.attribute(inputs, start, target=1, additional_forward_args=mask, n_steps=STEPS)
    shape = [emb.num_embeddings, emb.embedding_dim, emb.full_name]
    attr.remove_interpretable_embedding_layer(model, emb)
    return [values, shape, type(model.get_submodule("tokens")).__name__]


def _without_positions(model: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    x = model.tokens(x)
    return model.head(model.block2(model.block1(x, mask), mask).mean(1))


def option_cases() -> Iterator[Case]:
    """Arguments that only layers have."""
    yield Case("LayerGradientXActivation", "memory_efficient", _frugal)
    yield Case("LayerIntegratedGradients", "no-multiply", _plain_layer_path)
    for sizes in ((4, 6), 9):
        for mode in ("nearest", "bilinear"):
            yield Case(
                "LayerAttribution", f"interpolate/{mode}/{sizes}", bound(_interpolated, draw(2, 3, 5, 5), sizes, mode)
            )
    yield Case("LayerAttribution", "interpolate/linear/8", bound(_interpolated, draw(2, 3, 5), 8, "linear"))


def _interpolated(attr: Any, values: torch.Tensor, sizes: Any, mode: str) -> object:
    return attr.LayerAttribution.interpolate(values, sizes, mode)


def _frugal(attr: Any) -> object:
    scene = SCENES["perceptron"]()
    explainer = attr.LayerGradientXActivation(scene.model, scene.layer("tanh"), memory_efficient=True)
    return explainer.attribute(**scene.call)


def _plain_layer_path(attr: Any) -> object:
    scene = SCENES["perceptron"]()
    explainer = attr.LayerIntegratedGradients(scene.model, scene.layer("tanh"), multiply_by_inputs=False)
    return explainer.attribute(**scene.call, baselines=scene.baselines, n_steps=STEPS)


def place_cases() -> Iterator[Case]:
    """Every case of this file."""
    yield from layer_cases()
    yield from neuron_cases()
    yield from token_cases()
    yield from option_cases()
