"""Layers that also receive constants (masks, tables of angles), of all rows or of each: they explain nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum.attr import LayerDeepLift, LayerDeepLiftShap, LayerLRP
from captum.errors import InputError

X, X0 = (torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (1, 2))
IDS, OTHER = torch.tensor([[3, 9, 5, 2], [4, 4, 11, 6]]), torch.tensor([[7, 1, 1, 12], [4, 2, 11, 16]])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.v = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor, angles: Tensor, mask: Tensor) -> Tensor:
        turned = self.q(x) * angles.cos()
        return x + (turned @ turned.mT + mask).softmax(-1) @ self.v(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.block, self.head = nn.Linear(4, 4), Block(), nn.Linear(20, 2)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        angles = torch.linspace(0, 1, 20).to(x).reshape(1, 5, 4)
        mask = torch.zeros(5, 5).to(x).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        return self.head(self.block(self.first(x).tanh(), angles, mask.expand(len(x), 5, 5)).flatten(1))


def test_a_layer_is_explained_whole_by_what_varies() -> None:
    net = Net()
    layer = LayerDeepLift(net, net.block)
    found, gap = layer.attribute(X, X0, target=1, attribute_to_layer_input=True, return_convergence_delta=True)
    assert [tuple(part.shape) for part in found] == [(3, 5, 4), (3, 5, 4), (3, 5, 5)]
    with torch.no_grad():
        change = (net(X) - net(X0))[:, 1]
    torch.testing.assert_close(found[0].flatten(1).sum(1), change, rtol=1e-10, atol=1e-12)
    assert float(gap.abs().max()) < 1e-12
    assert not found[1].any()
    assert not found[2].any()
    halves = layer.attribute(X, X0, target=1, attribute_to_layer_input=True, internal_batch_size=2)
    torch.testing.assert_close(halves, found)


def test_the_mean_over_baselines_too() -> None:
    net = Net()
    found = LayerDeepLiftShap(net, net.block).attribute(X, X0, target=1, attribute_to_layer_input=True)
    with torch.no_grad():
        change = net(X)[:, 1] - net(X0)[:, 1].mean()
    torch.testing.assert_close(found[0].flatten(1).sum(1), change, rtol=1e-10, atol=1e-12)


def test_relevance_goes_to_what_varies() -> None:
    net = Net()
    inside, delta = LayerLRP(net, net.block).attribute(
        X, target=1, attribute_to_layer_input=True, return_convergence_delta=True
    )
    before = LayerLRP(net, net.first).attribute(X, target=1)
    torch.testing.assert_close(inside[0], before)  # tanh passes relevance on
    assert not inside[1].any()
    assert delta.shape == (3,)


def test_multipliers_of_what_rows_share_belong_to_no_row() -> None:
    net = Net()
    with pytest.raises(InputError, match="3 rows in dim 0"):
        LayerDeepLift(net, net.block, multiply_by_inputs=False).attribute(
            X, X0, target=1, attribute_to_layer_input=True
        )


@pytest.mark.parametrize("path", ["model.layers.0", "model.layers.1", "model.layers.1.self_attn"])
def test_a_llama_layer(path: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=20, num_key_value_heads=2, **sizes)
    llama = transformers.LlamaForCausalLM(config).eval()
    found, gap = LayerDeepLift(llama, llama.get_submodule(path)).attribute(
        IDS, OTHER, target=(-1, 5), attribute_to_layer_input=True, return_convergence_delta=True
    )
    assert all(len(part) == 2 for part in found)
    assert all(not part.any() for part in found[1:])
    if not path.endswith("attn"):  # around that goes a skip connection
        with torch.no_grad():
            change = (llama(IDS).logits - llama(OTHER).logits)[:, -1, 5]
        torch.testing.assert_close(found[0].flatten(1).sum(1), change, rtol=1e-4, atol=1e-5)
        assert float(gap.abs().max()) < 1e-5
