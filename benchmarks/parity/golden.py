"""Published numbers of the getting-started model: what both packages are held to besides each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOLERANCE = 1e-4
PATH = [[-0.59222, -1.54969, -1.00668], [0, -0.22192, -5.19913]]
PASS = [[0, 0, -3.14859], [0, -0.35593, -5.06512]]
ACTIVATION = [[-3.23748, -0.04444, 3.14859], [-4.70919, 0.17797, 5.06512]]

# case id -> the arrays of its result in order; None where nothing is published
GOLDEN: dict[str, list[Sequence[object] | None]] = {
    "IntegratedGradients/published/sequence": [
        [[0.29611, 0.51656, 0.25167], [0.68856, 0.07397, 0.86652]],
        PATH,
        [0, 0],
        [[-0.15418, -1.62286, -1.58346], [-0.39158, -0.28365, -4.68514]],
        [0, -0.00051, -0.00289, -0.00843, -0.00866, -0.04047, 0, -0.00843],
        [[-0.45743, -1.54932, -1.08925], [0, -0.26473, -5.16188]],
        None,
        None,
    ],
    "IntegratedGradients/published": [PATH],
    "Saliency/published": [[[2, 3, 4], [0, 3, 6]]],
    "InputXGradient/published": [PATH],
    "LayerActivation/published": [ACTIVATION],
    "LayerGradientXActivation/published": [PASS],
    "LayerIntegratedGradients/published": [PASS],
    "InternalInfluence/published": [[[0, 0, -1], [0, -2, -1]]],
    "NeuronIntegratedGradients/published": [[[-0.29611, 0, 0.25167], [-0.68856, 0, 0.86652]]],
    "GradientShap/published": [[[-0.20350, -1.69329, -1.50451], [0, -0.41336, -5.19475]]],
    "LayerGradientShap/published": [[[0, -0.08269, -3.31861], [0, -0.51133, -5.09678]]],
    "NeuronGradientShap/published": [[[-0.26705, 0, 0.27281], [-0.61013, 0, 0.86579]]],
    "NoiseTunnel/published/smoothgrad": [[[0.8, 3, 5.2], [0, 3, 6]]],
    "NoiseTunnel/published/smoothgrad_sq": [[[1.6, 9, 28], [0, 9, 36]]],
    "NoiseTunnel/published/vargrad": [[[0.96, 0, 0.96], [0, 0, 0]]],
    "FeatureAblation/published": [[[-0.08888, -1.54969, -1.00668], [0, -0.22192, -3.82202]]],
    "Occlusion/published": [[[-1.63857, -2.09747, -2.55637], [-0.22192, -2.13293, -4.04394]]],
    "ShapleyValueSampling/published": [[[-0.37075, -1.54969, -1.22815], [-0.77118, -0.22192, -4.42795]]],
    "ShapleyValues/published": [[[-0.34055, -1.54969, -1.25835], [-0.68856, -0.22192, -4.51057]]],
    "KernelShap/published": [[[-0.41390, -1.58708, -1.14762], [-0.38884, -0.27862, -4.75359]]],
    "Lime/published/row=0": [[[-0.30726, -1.49320, -1.21133]]],
    "Lime/published/row=1": [[[-0.56484, -0.13445, -4.39042]]],
    "FeaturePermutation/published": [[[0.8, 1.8, 3.6], [0, -0.9, 3.6], [0, -0.9, -1.6], [0, 0, -4]]],
    "DeepLift/toy": [PATH, [0, 0]],
    "GuidedBackprop/toy": [np.zeros((2, 3)).tolist()],
    "Deconvolution/toy": [np.zeros((2, 3)).tolist()],
}


def misses(case: str, arrays: list[np.ndarray]) -> float | None:
    """The largest distance from the published numbers, or None when it is within the tolerance or none are known."""
    worst = 0.0
    for expected, found in zip(GOLDEN.get(case, []), arrays, strict=False):
        if expected is not None:
            worst = max(worst, float(np.abs(np.asarray(expected, dtype=float) - found).max()))
    return worst if worst > TOLERANCE else None
