"""DeepLIFT and relevance in GPT-2: token ids, vectors, layers and neurons, in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captum.attr import LRP, DeepLift, LayerDeepLift, LayerDeepLiftShap, LayerLRP, NeuronDeepLift
from tests.models import fresh_model

IDS = torch.tensor([[3, 9, 5, 2], [4, 4, 11, 6]])
OTHER = torch.tensor([[7, 1, 1, 12], [4, 2, 11, 16]])
LAST = (-1, 5)


@pytest.fixture(scope="module")
def gpt2() -> nn.Module:
    return fresh_model("gpt2").double()


def score(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits[:, -1, 5]


class OfVectors(nn.Module):
    """The model of embeddings, as clients call it that look tokens up themselves."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, vectors: Tensor) -> Tensor:
        return self.model(inputs_embeds=vectors).logits


def test_vectors_of_tokens_are_explained_whole(gpt2: nn.Module) -> None:
    """GELU written out, layer norm, softmax and products of activations: where hooks on modules see no rule."""
    table = gpt2.get_submodule("transformer.wte")
    start, end = table(OTHER).detach(), table(IDS).detach()
    found, gap = DeepLift(OfVectors(gpt2)).attribute(end, start, target=LAST, return_convergence_delta=True)
    change = score(gpt2, IDS) - score(gpt2, OTHER)
    assert float(change.abs().min()) > 0.1
    torch.testing.assert_close(found.sum((1, 2)), change, rtol=1e-10, atol=0)
    assert float(gap.abs().max()) < 1e-12
    torch.testing.assert_close(DeepLift(gpt2).attribute(IDS, OTHER, target=LAST), found.sum(-1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", ["transformer.wte", "transformer.h.0", "transformer.h.1", "transformer.ln_f"])
@pytest.mark.parametrize("to_input", [False, True])
def test_layers_that_all_passes_through_are_explained_whole(gpt2: nn.Module, path: str, to_input: bool) -> None:
    if to_input and path.endswith("wte"):
        pytest.skip("it receives ids")
    layer = LayerDeepLift(gpt2, gpt2.get_submodule(path))
    found, gap = layer.attribute(
        IDS, OTHER, target=LAST, attribute_to_layer_input=to_input, return_convergence_delta=True
    )
    change = score(gpt2, IDS) - score(gpt2, OTHER)
    torch.testing.assert_close(found.flatten(1).sum(1), change, rtol=1e-10, atol=0)
    assert float(gap.abs().max()) < 1e-12


def values_at(model: nn.Module, path: str, ids: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    score(model, ids)
    handle.remove()
    return seen[0]


def test_a_branch_is_compared_with_its_value_at_the_other_ids(gpt2: nn.Module) -> None:
    """Around the branch flows what it does not explain: the delta tells how much."""
    layer = LayerDeepLift(gpt2, gpt2.get_submodule("transformer.h.0.mlp"))
    found, gap = layer.attribute(IDS, OTHER, target=LAST, return_convergence_delta=True)
    change = score(gpt2, IDS) - score(gpt2, OTHER)
    torch.testing.assert_close(gap, found.flatten(1).sum(1) - change)
    slopes = LayerDeepLift(gpt2, gpt2.get_submodule("transformer.h.0.mlp"), multiply_by_inputs=False)
    rise = values_at(gpt2, "transformer.h.0.mlp", IDS) - values_at(gpt2, "transformer.h.0.mlp", OTHER)
    torch.testing.assert_close(found, slopes.attribute(IDS, OTHER, target=LAST) * rise)


def test_the_mean_over_baselines_of_a_layer(gpt2: nn.Module) -> None:
    block = gpt2.get_submodule("transformer.h.0.mlp")
    found, gaps = LayerDeepLiftShap(gpt2, block).attribute(IDS, OTHER, target=LAST, return_convergence_delta=True)
    single = LayerDeepLift(gpt2, block)
    parts = [single.attribute(IDS, other[None], target=LAST) for other in OTHER]
    torch.testing.assert_close(found, (parts[0] + parts[1]) / 2)
    assert gaps.shape == (4,)


def test_a_neuron_is_explained_whole(gpt2: nn.Module) -> None:
    found = NeuronDeepLift(gpt2, gpt2.get_submodule("transformer.h.0.mlp")).attribute(IDS, (3, 2), OTHER)
    change = values_at(gpt2, "transformer.h.0.mlp", IDS) - values_at(gpt2, "transformer.h.0.mlp", OTHER)
    torch.testing.assert_close(found.sum(1), change[:, 3, 2], rtol=1e-10, atol=1e-14)


def test_relevance_at_the_embeddings_is_that_of_the_tokens(gpt2: nn.Module) -> None:
    layer: Callable[..., Tensor] = LayerLRP(gpt2, gpt2.get_submodule("transformer.wte"), composite="attn_lrp").attribute
    tokens = LRP(gpt2, composite="attn_lrp").attribute(IDS, target=LAST)
    torch.testing.assert_close(layer(IDS, target=LAST).sum(-1), tokens)
    assert bool((tokens != 0).all())
