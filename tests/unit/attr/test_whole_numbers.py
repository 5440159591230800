"""``captum.explain`` on columns of whole numbers for a model of floats."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import captum


@pytest.mark.parametrize("method", ["IntegratedGradients", "FeatureAblation", "KernelShap"])
def test_whole_numbers_for_a_model_of_floats_are_explained_as_floats(method):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    counts = torch.tensor([[1, 2, 0], [4, 0, 1]])
    found = captum.explain(model, counts, method=method, target=1, baselines=0)
    expected = captum.explain(model, counts.float(), method=method, target=1, baselines=0)
    torch.testing.assert_close(found.attributions, expected.attributions)
    torch.testing.assert_close(found.scores, expected.scores)


def test_errors_of_models_that_take_no_floats_either_come_out():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        captum.explain(nn.Linear(3, 2).eval(), torch.ones(1, 4, dtype=torch.int64).float(), target=0)
    with pytest.raises(RuntimeError, match="same dtype"):
        captum.explain(nn.Linear(3, 2).eval(), torch.ones(1, 4, dtype=torch.int64), target=0)
