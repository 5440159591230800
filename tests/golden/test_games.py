"""Published numbers of the perturbation methods (captum 0.9.0, CPU, float32), from the same streams."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from captum import attr
from tests.golden.toy import MODEL, Golden, X, seed_all

ROWS = torch.arange(12.0).view(4, 3) / 10
EXACT = [[-0.34055, -1.54969, -1.25835], [-0.68856, -0.22192, -4.51057]]
KERNEL = [[-0.41390, -1.58708, -1.14762], [-0.38884, -0.27862, -4.75359]]


def call(name: str, x: Tensor = X, **options: object) -> Callable[[], object]:
    return lambda: getattr(attr, name)(MODEL).attribute(x, target=0, **options)


CALLS = (
    Golden("FeatureAblation", call("FeatureAblation"), [[-0.08888, -1.54969, -1.00668], [0.0, -0.22192, -3.82202]]),
    Golden(
        "Occlusion",
        call("Occlusion", sliding_window_shapes=(2,)),
        [[-1.63857, -2.09747, -2.55637], [-0.22192, -2.13293, -4.04394]],
    ),
    Golden(
        "FeaturePermutation",
        call("FeaturePermutation", ROWS),
        [[0.8, 1.8, 3.6], [0, -0.9, 3.6], [0, -0.9, -1.6], [0, 0, -4]],
    ),
    Golden("ShapleyValues", call("ShapleyValues"), EXACT),
    Golden(
        "ShapleyValueSampling",
        call("ShapleyValueSampling"),
        [[-0.37075, -1.54969, -1.22815], [-0.77118, -0.22192, -4.42795]],
    ),
    Golden("KernelShap upstream", call("KernelShap", sampling="upstream"), KERNEL),
    Golden("KernelShap upstream, one row", call("KernelShap", X[:1], sampling="upstream"), KERNEL[:1]),
    Golden("KernelShap", call("KernelShap"), EXACT, "closed form: exact Shapley values, 2**3 coalitions fit in 25"),
    Golden("Lime 25", call("Lime", X[:1]), [[-0.30726, -1.49320, -1.21133]]),
    Golden("Lime 100", call("Lime", X[1:], n_samples=100), [[-0.56484, -0.13445, -4.39042]]),
)


@pytest.mark.parametrize("golden", [pytest.param(row, id=row.name) for row in CALLS])
def test_published_numbers(golden: Golden) -> None:
    seed_all()
    found = golden.call()
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, torch.tensor(golden.value), rtol=0, atol=1e-4)
