"""Differences that are meant: which cases, why, and what the published package's numbers become when mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

Arrays = list[np.ndarray]
Mend = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Known:
    """One meant difference.

    ``allows`` says what may differ: ``numbers``, ``dtype``, ``structure``, ``refused`` (the published package raises,
    here there is a result), ``refuses`` (the reverse), ``error`` (another kind of error). What the numbers are held to:

    - ``mend`` turns the published numbers into the right ones;
    - ``like`` names a case whose published numbers ours must agree with (``{}`` is the middle of this case's own id);
    - ``complete`` asks that our last array, the completeness residuals, vanishes;
    - ``within`` is the largest difference as a share of the scale, where nothing better is known.
    """

    name: str
    reason: str
    cases: tuple[str, ...]
    allows: frozenset[str] = frozenset({"numbers"})
    mend: Mend | None = None
    like: str = ""
    complete: bool = False
    within: float = float("inf")

    def covers(self, case: str) -> bool:
        """Whether this difference is about a case."""
        return any(fnmatchcase(case, pattern) for pattern in self.cases)


def scaled(factor: float) -> Mend:
    """Attributions times a factor, with a last array of completeness residuals moved along."""

    def mend(arrays: Arrays) -> Arrays:
        values, residuals = (arrays[:-1], arrays[-1:]) if len(arrays) > 1 else (arrays, [])
        rows = sum((value.reshape(len(value), -1).sum(1) for value in values), np.zeros(len(values[0])))
        return [value * factor for value in values] + [delta + (factor - 1) * rows for delta in residuals]

    return mend


KNOWN: tuple[Known, ...] = (
    Known(
        "trapezoid-weights",
        "The published trapezoid weights sum to (n-1)/n; here they sum to 1.",
        ("IntegratedGradients/*/riemann_trapezoid*",),
        mend=scaled(7 / 6),
    ),
    Known(
        "trapezoid-weights-neurons",
        "The same at neurons, where the trapezoid is the default.",
        tuple(f"NeuronConductance/{p}" for p in ("*]",)),
        mend=scaled(6 / 5),
    ),
    Known(
        "conductance-fine",
        "Published increments leave out the ends of the path; with many steps both tend to one limit.",
        ("LayerConductance/fine/*",),
        within=0.01,
    ),
    Known(
        "conductance-telescopes",
        "Published increments leave out the ends of the path; here they telescope to the whole change of the layer.",
        ("LayerConductance/*", "IntegratedGradients/published/sequence"),
        within=2.0,
    ),
    Known(
        "neuron-slice-sums",
        "Over several neurons the published conductance multiplies sums; here it is the sum of the single neurons.",
        ("NeuronConductance/*:*", "NeuronConductance/*callable*"),
    ),
    Known(
        "noise-before-chunks",
        "Noise is drawn before the draws are chunked, so nt_samples_batch_size does not change the numbers here.",
        ("NoiseTunnel/Saliency/perceptron/chunk=*",),
        like="NoiseTunnel/Saliency/perceptron/smoothgrad",
    ),
    Known(
        "residuals-example-major",
        "With nt_samples_batch_size the published residuals come chunk by chunk; here row by row, whatever the chunks.",
        ("NoiseTunnel/IntegratedGradients/delta/chunk=2",),
        like="NoiseTunnel/IntegratedGradients/delta/chunk=None",
    ),
    Known(
        "distribution-is-whole",
        "Noise tunnel repeats a distribution of baselines row by row there; here draws are from it as it was given.",
        ("NoiseTunnel/GradientShap/*",),
    ),
    Known(
        "inplace-after-layer",
        "An in-place operator on a replaced layer output is an error there.",
        ("LayerIntegratedGradients/conv_inplace/*",),
        frozenset({"refused"}),
    ),
    Known(
        "layer-used-twice",
        "A layer that runs twice is replaced in both runs there; here in the last one, where its value is read.",
        ("LayerIntegratedGradients/two_inputs/left/*",),
    ),
    Known(
        "grad-cam-tokens",
        "Grad-CAM of (batch, tokens, features) takes tokens for channels there; here the features are the channels.",
        ("LayerGradCam/vectors*/*",),
        frozenset({"structure"}),
    ),
    Known(
        "unused-input",
        "An input that the score does not use gets zeros here, an error of autograd there.",
        ("Neuron*/two_inputs/left*",),
        frozenset({"refused"}),
    ),
    Known(
        "dtype-kept",
        "Half precision in gives half precision out; there sums are float32 or the call fails.",
        ("*/dtype/float16", "*/dtype/bfloat16"),
        frozenset({"numbers", "dtype", "refused"}),
        within=0.05,
    ),
    Known(
        "variance-dtype",
        "The variance of one update is float32 zeros there; here it is float64 as after any other update.",
        ("ClassSummarizer/list", "Summarizer/*/once"),
        frozenset({"dtype"}),
    ),
    Known(
        "mask-of-fewer-dims",
        "A mask of fewer dims than the input is an error there once perturbations are packed.",
        ("FeatureAblation/perceptron/mask=row/packed=3",),
        frozenset({"refused"}),
    ),
    Known(
        "gaps-are-free",
        "Missing mask ids take part in the permutations there and cost draws; here ids are compressed.",
        tuple(f"{kind}/perceptron/mask=gaps/packed=*" for kind in ("ShapleyValueSampling", "Lime", "KernelShap")),
        within=1.0,
    ),
    Known(
        "kernel-shap-exact",
        "With a budget for every coalition Kernel SHAP is exact here, and sampled with replacement there.",
        ("KernelShap/perceptron/mask=*/enumerated",),
        like="ShapleyValues/{}/packed=1",
    ),
    Known(
        "permutation-before-chunks",
        "With several inputs the published permutations depend on perturbations_per_eval; here they do not.",
        ("FeaturePermutation/two_inputs/packed=2",),
        like="FeaturePermutation/two_inputs/packed=1",
    ),
    Known(
        "games-keep-dtype",
        "Shapley values, LIME and occlusion are always float32 there; here they have the dtype of the scores.",
        ("Shapley*/perceptron64", "Shapley*/output=float", "Lime/*", "KernelShap/*", "Occlusion/*"),
        frozenset({"dtype"}),
    ),
    Known(
        "descent-stops",
        "When descent stops and lowers its rate is decided on the loss of an epoch here, on a running mean over as "
        "many batches as a batch has rows there.",
        ("captum._utils.models.linear_model:SGD*/stopped",),
        within=0.5,
    ),
    Known(
        "classes-int64",
        "Class labels of the scikit-learn surrogates are int64 here, int32 there.",
        ("captum._utils.models.linear_model.model:SkLearn*/classes",),
        frozenset({"dtype"}),
    ),
    Known(
        "functional-activations",
        "DeepLIFT there takes the plain gradient of functional activations; here every operator has its rule.",
        ("DeepLift/functional/*",),
        complete=True,
    ),
    Known(
        "clearer-errors",
        "Errors of torch or of attribute look-ups there are input errors here that say what was expected.",
        ("*/refused/target/float-tensor", "*/refused/target/large-list", "*/refused/inputs/list-in-tuple"),
        frozenset({"error"}),
    ),
)


def known_for(case: str) -> list[Known]:
    """The meant differences that cover a case."""
    return [known for known in KNOWN if known.covers(case)]
