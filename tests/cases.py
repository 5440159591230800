"""The test matrix: one row per algorithm. A row enters its algorithm into every law in ``tests/laws``.

A law an algorithm cannot keep is named in ``breaks``, with the reason. ``LAWS`` says what each law demands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

import captum.attr
from captum.linear import ClosedFormLinearRegression
from tests.parts import groups_of, mask_of, windows_of
from tests.subjects import ATTENDING, SLOW, SPATIAL, Subject

LAWS = {
    "completeness": "values add up to F(x) - F(baseline)",
    "dummy": "what the score does not read gets zero",
    "symmetry": "what the score treats alike gets alike",
    "linearity": "the values of 2f - 3g are 2 (values of f) - 3 (values of g)",
    "invariance": "the same function written differently gets the same values",
    "rows": "a batch of n gives what n batches of one give",
    "mixing": "changing one row leaves the other rows' values alone",
    "chunks": "the chunk size is invisible",
    "dtype": "the dtype of the inputs is the dtype of the values, and low precision is only lost in the model",
    "device": "no tensor is made on another device than the inputs'",
    "restored": "a call leaves nothing behind, also when it fails",
    "seeds": "the same seed gives the same values and spares the global streams",
    "structure": "tensor in, tensor out; tuple in, tuple out; the same numbers",
    "pickle": "the object can be copied and pickled",
    "growth": "repeated calls do not pile up tensors",
    "modes": "the caller's grad mode does not matter",
    "double": "create_graph=True gives values that can be differentiated",
    "tokens": "token ids get one value each",
    "callables": "any function will do as the model",
}


@dataclass(frozen=True)
class Case:
    """How to build one algorithm, how to call it, and which laws it cannot keep.

    Args:
        name: Name of the row, unique.
        cls: Public name in ``captum.attr``.
        place: What gets values: the ``"input"``, a ``"layer"``, or the input as seen by a ``"neuron"``.
        baselines: Whether it takes no baseline, one ``"point"`` or a ``"cloud"`` of them.
        options: Arguments for every call.
        wraps: The row that this one is built around, as ``NoiseTunnel`` is.
        chunk: The argument that sets the chunk size, if there is one.
        random: Whether it draws random numbers.
        targeted: Whether ``attribute`` takes a ``target``.
        spatial: Whether it needs a layer with an image-like value.
        attends: Whether it reads the attention weights of a transformer: values are one per token.
        tolerance: Largest completeness error per unit of score on a smooth function.
        breaks: Law to reason, for each law of ``LAWS`` that this algorithm cannot keep.
        settings: Keyword arguments of the constructor.
        features: Most features it can be called with: what has more is masked.
        remark: Start of the warning that a call may give by design, where an option has no effect.
    """

    name: str
    cls: str
    place: Literal["input", "layer", "neuron"] = "input"
    baselines: Literal["none", "point", "cloud"] = "none"
    options: Mapping[str, object] = field(default_factory=dict)
    wraps: str | None = None
    chunk: str | None = None
    random: bool = False
    targeted: bool = True
    spatial: bool = False
    attends: bool = False
    tolerance: float = 1e-4
    breaks: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    features: int | None = None
    remark: str | None = None

    def layer_of(self, subject: Subject) -> nn.Module:
        """The module this row is built on."""
        path = subject.spatial if self.spatial else subject.layer
        assert path is not None, f"{self.name} needs a layer with places, {subject.name} has none"
        return subject.model.get_submodule(path)

    @property
    def home(self) -> str:
        """The simplest subject this row can be called on."""
        return "attention" if self.attends else "cnn" if self.spatial else "mlp"

    def fits(self, name: str) -> bool:
        """Whether the row can be called on the subject of that name."""
        if self.attends or name == "attention":
            return self.attends and name in ATTENDING
        return (name in SPATIAL or not self.spatial) and (self.name, name) not in _DEGENERATE

    def takes(self, argument: str) -> bool:
        """Whether ``attribute`` has an argument of that name; ``NoiseTunnel`` has those of the row it wraps."""
        names = inspect.signature(getattr(captum.attr, self.cls).attribute).parameters
        return argument in names or (self.wraps is not None and CASES[self.wraps].takes(argument))

    def quick(self, steps: int = 3) -> dict[str, object]:
        """Arguments that make a call short, where the row has any."""
        return {"n_steps": steps} if self.takes("n_steps") else {}

    def build(self, subject: Subject, model: Callable[..., object] | None = None) -> object:
        """The attribution object on the subject's model, or on another callable around it."""
        forward = subject.model if model is None else model
        kind: Callable[..., object] = getattr(captum.attr, self.cls)
        if self.wraps is not None:
            return kind(CASES[self.wraps].build(subject, model))
        if self.place == "input" and not self.spatial:
            return kind(forward, **self.settings)
        return kind(forward, self.layer_of(subject), **self.settings)

    def arguments(self, subject: Subject) -> dict[str, object]:
        """The keyword arguments of ``attribute`` for the subject, without the inputs."""
        kwargs: dict[str, object] = {**self.options, **subject.options}
        if self.targeted:
            kwargs["target"] = subject.target
        if subject.arguments is not None:
            kwargs["additional_forward_args"] = subject.arguments
        if self.place == "neuron":
            kwargs["neuron_selector"] = subject.neuron
        if self.baselines == "point" and subject.baselines is not None:
            kwargs["baselines"] = subject.baselines
        if self.baselines == "cloud":
            kwargs["baselines"] = subject.cloud
        mask = mask_of(subject.inputs, self.features) if self.takes("feature_mask") else None
        if mask is not None:
            kwargs["feature_mask"] = mask
        if self.takes("sliding_window_shapes"):
            kwargs.update(windows_of(subject.inputs))
        if self.takes("groups"):
            kwargs["groups"] = groups_of(subject.inputs, mask)
        if self.takes("layer_mask") and subject.name == "resnet18":
            kwargs["layer_mask"] = torch.arange(512).reshape(1, 512, 1, 1) // 32
        return kwargs

    def run(self, subject: Subject, /, *, model: Callable[..., object] | None = None, **changes: object) -> object:
        """Call the algorithm once, with the global streams seeded."""
        method = self.build(subject, model)
        return self.call(method, subject, **changes)

    def call(self, method: object, subject: Subject, /, **changes: object) -> object:
        """Call a built object once, with the global streams seeded."""
        if self.random:
            torch.manual_seed(7)
            np.random.seed(7)  # noqa: NPY002 - these are the streams the methods read
        kwargs = {**self.arguments(subject), **changes}
        attribute: Callable[..., object] = getattr(method, "attribute")  # noqa: B009 - the class is known at run time
        return attribute(subject.inputs, **kwargs)


_GRADIENT = "a gradient knows no second point"
_VALUE = "it shows the value, not its effect"
_SELECTS = "it explains the layer's own unit, so rewriting the model changes what is explained"
_BATCH = "draws are made for the whole batch, so a row alone gets other draws"
_NOISE = "noise is drawn for each feature by itself"
_SQUARE = "squares are not additive"
_MAP = "one map is shared by all channels"
_IBS = "internal_batch_size"
_SHAP = {"n_samples": 5}
_PPE = "perturbations_per_eval"
_ALONE = "features leave one at a time, so what they do together is not shared out"
_FORWARD = {"double": "nothing is differentiated",
            "tokens": "ids are replaced as they are, not moved to their embeddings"}  # fmt: skip
_OTHERS = "values come from the other rows"
_DRAWN = "coalitions are sampled"
_GATES = {"activations": ("relu", "gelu", "tanh", "sigmoid", "silu", "softplus", "elu", "exp")}
_RULED = "rules follow the operators, so the way a function is written matters"
_SLOPES = "slopes are taken for constants"
_MODULE = "what a function does inside cannot be searched for scripted code"
_RULES = {"invariance": _RULED, "double": _SLOPES, "callables": _MODULE}
_GUIDED = {"completeness": _GRADIENT, "invariance": _RULED, "double": _SLOPES, "callables": _MODULE,
           "linearity": "negative gradients are cut off"}  # fmt: skip
_RELEVANCE = {"completeness": "biases keep their share", "invariance": _RULED, "double": _SLOPES, "callables": _MODULE,
              "linearity": "a sum shares in proportion to its parts"}  # fmt: skip

_ATTENTION = {"structure": "values are one per token, whatever the form of the inputs", "double": _SLOPES,
              "callables": _MODULE}  # fmt: skip


def _row(name: str, **more: object) -> Case:
    more.setdefault("cls", name)
    return Case(name, **more)  # type: ignore[arg-type]


def _tunnel(inner: str, nt_type: str, baselines: str = "none", **breaks: str) -> Case:
    never = {"completeness": _NOISE, "symmetry": _NOISE, "rows": _BATCH}
    options = {"nt_type": nt_type, "nt_samples": 5, "stdevs": 0.1}
    if inner == "IntegratedGradients":
        options["n_steps"] = 4
    return _row(
        f"NoiseTunnel({inner}, {nt_type})", cls="NoiseTunnel", wraps=inner, options=options, random=True,
        baselines=baselines, chunk="nt_samples_batch_size", breaks={**never, **breaks},
    )  # fmt: skip


def _cam(name: str, variant: str, **breaks: str) -> Case:
    options = {} if variant == "grad_cam" else {"variant": variant}
    never = {"completeness": _GRADIENT, "symmetry": _MAP, "dummy": _MAP}
    return _row(name, cls="LayerGradCam", place="layer", spatial=True, options=options, breaks={**never, **breaks})


_ROWS = (
    _row("Saliency", breaks={"completeness": _GRADIENT, "linearity": "absolute values are not additive"}),
    _row("Saliency(signed)", cls="Saliency", options={"abs": False}, breaks={"completeness": _GRADIENT}),
    _row("InputXGradient", breaks={"completeness": _GRADIENT}),
    _row("IntegratedGradients", baselines="point", options={"n_steps": 50}, chunk=_IBS),
    _row("IDGI", baselines="point", options={"n_steps": 50}, chunk=_IBS,
         breaks={"linearity": "squared gradients are not additive"}),
    _row("GradientShap", baselines="cloud", options=_SHAP, chunk=_IBS, random=True,
         breaks={"completeness": "the path is sampled, the error goes with 1 / sqrt(n_samples)", "rows": _BATCH}),
    _tunnel("Saliency", "smoothgrad", linearity="absolute values are not additive"),
    _tunnel("IntegratedGradients", "smoothgrad", "point"),
    _tunnel("IntegratedGradients", "smoothgrad_sq", "point", linearity=_SQUARE),
    _tunnel("Saliency(signed)", "vargrad", linearity=_SQUARE),
    _row("LayerActivation", place="layer", targeted=False,
         breaks={"completeness": _VALUE, "dummy": _VALUE, "linearity": _VALUE,
                 "double": "nothing is differentiated"}),
    _row("LayerGradientXActivation", place="layer", breaks={"completeness": _GRADIENT}),
    _cam("LayerGradCam", "grad_cam"),
    _cam("LayerGradCam(grad_cam++)", "grad_cam++", linearity="weights are positive parts"),
    _cam("LayerGradCam(hires_cam)", "hires_cam"),
    _cam("LayerGradCam(layer_cam)", "layer_cam", linearity="weights are positive parts"),
    _cam("LayerGradCam(eigen_cam)", "eigen_cam", linearity=_VALUE, double="a singular vector has no stable gradient"),
    _row("LayerConductance", place="layer", baselines="point", chunk=_IBS),
    _row("InternalInfluence", place="layer", baselines="point", chunk=_IBS,
         breaks={"completeness": "it is a mean gradient, not multiplied by a difference"}),
    _row("LayerIntegratedGradients", place="layer", baselines="point", chunk=_IBS),
    _row("LayerGradientShap", place="layer", baselines="cloud", options=_SHAP, chunk=_IBS, random=True,
         breaks={"completeness": "the path is sampled, the error goes with 1 / sqrt(n_samples)", "rows": _BATCH}),
    _row("NeuronGradient", place="neuron", targeted=False, breaks={"completeness": _GRADIENT}),
    _row("NeuronIntegratedGradients", place="neuron", targeted=False, baselines="point", chunk=_IBS),
    _row("NeuronConductance", place="neuron", baselines="point", chunk=_IBS, tolerance=1e-2),
    _row("NeuronGradientShap", place="neuron", targeted=False, baselines="cloud", options=_SHAP, chunk=_IBS,
         random=True, breaks={"completeness": "the path is sampled", "rows": _BATCH}),
    _row("FeatureAblation", baselines="point", chunk=_PPE, breaks={"completeness": _ALONE, **_FORWARD}),
    _row("FeaturePermutation", chunk=_PPE, random=True,
         breaks={"completeness": _ALONE, "symmetry": _NOISE, "dummy": "a row may keep its own value", "rows": _OTHERS,
                 "mixing": _OTHERS, **_FORWARD}),
    _row("ShapleyValueSampling", baselines="point", options={"n_samples": 2}, chunk=_PPE, random=True,
         breaks={"symmetry": "orders are sampled", **_FORWARD}),
    _row("Occlusion", baselines="point", chunk=_PPE, breaks={"completeness": _ALONE, **_FORWARD}),
    _row("Occlusion(incremental)", cls="Occlusion", baselines="point", options={"incremental": True}, chunk=_PPE,
         breaks={"completeness": _ALONE, **_FORWARD}, remark="incremental=True has no effect"),
    _row("ShapleyValues", baselines="point", chunk=_PPE, features=6, breaks=_FORWARD),
    _row("OwenValues", baselines="point", chunk=_PPE, features=6,
         breaks={"symmetry": "twins that join with different groups earn differently", **_FORWARD}),
    _row("OwenValues(sampled)", cls="OwenValues", baselines="point", options={"n_samples": 4}, chunk=_PPE, features=6,
         random=True, breaks={"symmetry": "orders are sampled, and groups differ", **_FORWARD}),
    _row("KernelShap", baselines="point", options={"n_samples": 9}, chunk=_PPE, random=True,
         breaks={"symmetry": _DRAWN, "dummy": _DRAWN, **_FORWARD}),
    _row("Lime", baselines="point", settings={"interpretable_model": ClosedFormLinearRegression()},
         options={"n_samples": 24}, chunk=_PPE, random=True,
         breaks={"completeness": "a local fit does not add up", "symmetry": _DRAWN, "dummy": _DRAWN, "rows": _BATCH,
                 "growth": "the last fitted model stays in the caller's interpretable model", **_FORWARD}),
    _row("LayerFeaturePermutation", place="layer", chunk=_PPE, random=True,
         breaks={"completeness": _ALONE, "symmetry": _NOISE, "dummy": "a row may keep its own value", "rows": _OTHERS,
                 "mixing": _OTHERS, **_FORWARD}),
    _row("LayerFeatureAblation", place="layer", chunk=_PPE, breaks={"completeness": _ALONE, **_FORWARD}),
    _row("NeuronFeatureAblation", place="neuron", targeted=False, baselines="point", chunk=_PPE,
         breaks={"completeness": _ALONE, **_FORWARD}),
    _row("DeepLift", baselines="point", chunk=_IBS, breaks=_RULES),
    _row("DeepLift(reveal_cancel)", cls="DeepLift", settings={"rule": "reveal_cancel"}, baselines="point", chunk=_IBS,
         breaks={**_RULES, "linearity": "an activation of a sum is not the sum of activations"}),
    _row("DeepLiftShap", baselines="cloud", chunk=_IBS, breaks=_RULES),
    _row("LayerDeepLift", place="layer", baselines="point", chunk=_IBS, breaks=_RULES),
    _row("LayerDeepLiftShap", place="layer", baselines="cloud", chunk=_IBS, breaks=_RULES),
    _row("NeuronDeepLift", place="neuron", targeted=False, baselines="point", chunk=_IBS, breaks=_RULES),
    _row("NeuronDeepLiftShap", place="neuron", targeted=False, baselines="cloud", chunk=_IBS, breaks=_RULES),
    _row("GuidedBackprop", settings=_GATES, breaks=_GUIDED),
    _row("Deconvolution", settings=_GATES, breaks=_GUIDED),
    _row("GuidedGradCam", settings=_GATES, spatial=True,
         breaks={**_GUIDED, "symmetry": _MAP, "tokens": "it needs an image-like layer"}),
    _row("NeuronGuidedBackprop", settings=_GATES, place="neuron", targeted=False, breaks=_GUIDED),
    _row("NeuronDeconvolution", settings=_GATES, place="neuron", targeted=False, breaks=_GUIDED),
    _row("LRP", breaks=_RELEVANCE),
    _row("LRP(epsilon_plus)", cls="LRP", settings={"composite": "epsilon_plus"}, breaks=_RELEVANCE),
    _row("LRP(attn_lrp)", cls="LRP", settings={"composite": "attn_lrp"}, breaks=_RELEVANCE),
    _row("LayerLRP", place="layer", breaks=_RELEVANCE),
    _row("AttentionRollout", attends=True, targeted=False, breaks=_ATTENTION),
    _row("AttentionRelevance", attends=True, breaks=_ATTENTION),
)  # fmt: skip

CASES = {row.name: row for row in _ROWS}


def rows(
    law: str,
    *,
    place: str | None = None,
    random: bool | None = None,
    spatial: bool | None = None,
    attends: bool | None = False,
    where: Callable[[Case], bool] = lambda case: True,
) -> list[Case]:
    """The rows that keep a law, by default all of them but those that need a transformer."""
    kept = [case for case in CASES.values() if law not in case.breaks and where(case)]
    kept = [case for case in kept if place is None or case.place == place]
    kept = [case for case in kept if random is None or case.random == random]
    kept = [case for case in kept if attends is None or case.attends == attends]
    return [case for case in kept if spatial is None or case.spatial == spatial]


def keeping(law: str, **only: object) -> list[object]:
    """The rows that keep a law, as pytest parameters; ``only`` is passed to ``rows``."""
    return [pytest.param(case, id=case.name) for case in rows(law, **only)]  # type: ignore[arg-type]


#: What a norm leaves of a gradient sums to zero over the embedding.
_DEGENERATE = {("GuidedBackprop", "bert")}


def pairs(law: str, *names: str, **only: object) -> list[object]:
    """The rows that keep a law with each subject they can be called on, as pytest parameters ``case, name``."""
    return [
        pytest.param(case, name, id=f"{case.name}-{name}", marks=[pytest.mark.slow] if name in SLOW else [])
        for case in rows(law, attends=None, **only)  # type: ignore[arg-type]
        for name in names
        if case.fits(name)
    ]
