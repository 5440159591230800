"""Embedding layers swapped out and back."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from captum.attr import (
    InterpretableEmbeddingBase,
    TokenReferenceBase,
    configure_interpretable_embedding_layer,
    remove_interpretable_embedding_layer,
)
from captum.attr.text.embedding import interpretable_embedding
from captum.errors import InputError, LayerError


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"emb": nn.Embedding(7, 3, padding_idx=0)})
        self.out = nn.Sequential(nn.Linear(3, 2))
        self.embedding = nn.Embedding(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.parts["emb"](ids).mean(1))


def test_vectors_instead_of_ids_give_the_same_score_and_a_gradient() -> None:
    model, ids = Bag(), torch.tensor([[1, 2, 5], [3, 3, 0]])
    expected, weights, names = model(ids), model.state_dict(), [name for name, _ in model.named_modules()]
    embedding = configure_interpretable_embedding_layer(model, "parts.emb")
    vectors = embedding.indices_to_embeddings(ids).detach().requires_grad_()
    assert torch.equal(model(vectors), expected)
    (gradient,) = torch.autograd.grad(model(vectors)[:, 1].sum(), vectors)
    assert torch.allclose(gradient, (model.out[0].weight[1] / 3).expand_as(gradient))
    remove_interpretable_embedding_layer(model, embedding)
    assert torch.equal(model(ids), expected)
    assert model.state_dict().keys() == weights.keys()
    assert [name for name, _ in model.named_modules()] == names


def test_what_the_stand_in_shows() -> None:
    model = Bag()
    original = model.parts["emb"]
    embedding = configure_interpretable_embedding_layer(model, "parts.emb")
    assert isinstance(embedding, InterpretableEmbeddingBase)
    assert embedding.embedding is original
    assert (embedding.num_embeddings, embedding.embedding_dim, embedding.full_name) == (7, 3, "parts.emb")
    assert embedding.weight is original.weight
    assert embedding.padding_idx == 0
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = embedding.no_such_thing
    assert embedding(1, 2) == 1
    assert embedding(ids=3, other=4) == 3
    with pytest.raises(InputError, match="parts"):
        embedding()


def test_the_default_name_and_other_layers() -> None:
    model = Bag()
    embedding = configure_interpretable_embedding_layer(model)
    assert model.embedding is embedding
    linear = configure_interpretable_embedding_layer(model, "out.0")
    assert model.out[0] is linear
    assert linear.num_embeddings is None


@pytest.mark.parametrize("training", [True, False])
def test_training_flags_are_kept(training: bool) -> None:
    model = Bag().train(training)
    with interpretable_embedding(model, "parts.emb") as embedding:
        assert embedding.training is training
        assert all(module.training is training for module in model.modules())
    assert all(module.training is training for module in model.modules())


def test_the_context_manager_puts_back_after_an_exception() -> None:
    model = Bag()
    original = model.parts["emb"]
    with pytest.raises(ZeroDivisionError), interpretable_embedding(model, "parts.emb"):
        raise ZeroDivisionError
    assert model.parts["emb"] is original


def test_removing_inside_the_block_or_twice_is_harmless() -> None:
    model = Bag()
    original = model.embedding
    with interpretable_embedding(model) as embedding:
        remove_interpretable_embedding_layer(model, embedding)
        remove_interpretable_embedding_layer(model, embedding)
    assert model.embedding is original


def test_already_replaced() -> None:
    model = Bag()
    embedding = configure_interpretable_embedding_layer(model)
    with pytest.raises(LayerError, match="already replaced"):
        configure_interpretable_embedding_layer(model)
    assert model.embedding is embedding


def test_something_else_in_its_place_is_kept() -> None:
    model = Bag()
    embedding = configure_interpretable_embedding_layer(model)
    model.embedding = nn.Identity()
    with pytest.raises(LayerError, match="is a Identity"):
        remove_interpretable_embedding_layer(model, embedding)
    assert isinstance(model.embedding, nn.Identity)


@pytest.mark.parametrize("name", ["nope", "parts.nope", "nope.emb", "", "parts.emb.weight"])
def test_unknown_names_list_the_embeddings(name: str) -> None:
    with pytest.raises(AttributeError) as fault:
        configure_interpretable_embedding_layer(Bag(), name)
    assert isinstance(fault.value, LayerError)
    assert not name or "'parts.emb', 'embedding'" in str(fault.value)


def test_a_replaced_model_can_be_copied() -> None:
    model = Bag()
    configure_interpretable_embedding_layer(model, "parts.emb")
    vectors = torch.randn(2, 3, 3)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(vectors), model(vectors))
        assert copied.parts["emb"].embedding_dim == 3


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "meta"])
def test_reference_tokens(device: torch.device | str) -> None:
    reference = TokenReferenceBase(4).generate_reference(3, device)
    assert (reference.dtype, reference.device, reference.shape) == (torch.long, torch.device(device), (3,))
    if reference.device.type == "cpu":
        assert reference.tolist() == [4, 4, 4]
    assert TokenReferenceBase().generate_reference(0, "cpu").tolist() == []


@pytest.mark.parametrize(("token", "length"), [("a", 1), (0, -1), (0, 2.0)])
def test_reference_tokens_that_cannot_be(token: object, length: object) -> None:
    with pytest.raises(InputError):
        TokenReferenceBase(token).generate_reference(length, "cpu")
