"""Every row of the table through the front door, with nothing given that a newcomer would not know of."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn

from captum import explain
from captum.attr.registry import METHODS
from captum.errors import InputError

ATTENTION = {"attention_relevance", "attention_rollout"}
EXTRA: dict[str, dict[str, object]] = {
    "deep_lift_shap": {"baselines": torch.zeros(2, 1, 3, 3)},
    "layer_deep_lift_shap": {"baselines": torch.zeros(2, 1, 3, 3)},
    "neuron_deep_lift_shap": {"baselines": torch.zeros(2, 1, 3, 3)},
    "owen_values": {"groups": [[0, 1, 2], [3, 4, 5], [6, 7, 8]]},
    "lime": {"n_samples": 40},
    "kernel_shap": {"n_samples": 100},
}
FROM_ZERO = {"lrp", "layer_lrp"}


@pytest.fixture
def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        return self.head(x + self.attention(x, x, x)[0])[:, 0]


def place(name: str) -> dict[str, object]:
    needs = METHODS[name].needs
    found: dict[str, object] = {"layer": "0"} if "layer" in needs else {}
    if "neuron_selector" in needs:
        found["neuron_selector"] = (0, 1, 1)
    if "seed" in METHODS[name].parameters():
        found["seed"] = 0
    return {**found, **EXTRA.get(name, {})}


@pytest.mark.filterwarnings("ignore:.*:captum.errors.CaptumWarning")
@pytest.mark.parametrize("name", [name for name in METHODS if name not in ATTENTION])
def test_every_method_explains(name: str, cnn: nn.Sequential) -> None:
    row = METHODS[name]
    x = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(2))
    e = explain(cnn, x, name, **place(name))
    assert e.method == name
    assert len(e) == 2
    values = e.attributions
    assert (
        values.shape
        == (cnn[0](x)[:, :1] if name == "layer_grad_cam" else cnn[0](x) if row.kind == "layer" else x).shape
    )
    assert bool(values.isfinite().all())
    assert bool(values.any())
    assert not values.requires_grad
    assert (e.residual is not None) == row.has_convergence_delta
    assert bool(e.targets) == row.reads_target
    assert repr(e).startswith(f"Explanation({name}")
    if e.residual is not None:
        rows, best = range(2), list(e.targets)
        start = torch.zeros(2) if name in FROM_ZERO else cnn(torch.zeros_like(x))[rows, best]
        assert torch.allclose(e.baseline_scores, start.double(), atol=1e-5)
        assert torch.allclose(e.scores, cnn(x)[rows, best])


@pytest.mark.parametrize("name", METHODS)
def test_units_are_those_of_the_class(name: str, cnn: nn.Sequential) -> None:
    cls = METHODS[name].load()
    layer = [cnn[0]] if "layer" in inspect.signature(cls).parameters else []
    assert METHODS[name].multiplies_by_inputs == cls(cnn, *layer).multiplies_by_inputs


@pytest.mark.parametrize("name", sorted(ATTENTION))
def test_attention_methods_explain_tokens(name: str) -> None:
    torch.manual_seed(0)
    e = explain(Reader().eval(), torch.tensor([[1, 2, 3], [4, 5, 6]]), name, tokens=[list("abc"), list("def")])
    assert e.attributions.shape == (2, 3)
    assert e[1].top(1)[0].name in "def"


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_needs_is_said(name: str, cnn: nn.Sequential) -> None:
    filled = {"sliding_window_shapes"} if METHODS[name].baseline_rows > 1 else {"sliding_window_shapes", "baselines"}
    for argument in set(METHODS[name].needs) - filled:
        given = {key: value for key, value in place(name).items() if key != argument}
        if argument == "layer" and METHODS[name].kind == "neuron":
            continue
        with pytest.raises(InputError, match=f"needs {argument}="):
            explain(cnn, torch.randn(2, 1, 3, 3), name, **given)
