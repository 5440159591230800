"""Embedding vectors as inputs: swap an embedding layer for one that passes its input through, and swap it back.

Gradient and path methods take token ids as they are, so this is needed only where the embedding vectors themselves are
to be made, changed or explained by hand.
"""

from __future__ import annotations

import operator
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from captum.errors import InputError, InputTypeError, LayerError

__all__ = [
    "InterpretableEmbeddingBase",
    "TokenReferenceBase",
    "configure_interpretable_embedding_layer",
    "interpretable_embedding",
    "remove_interpretable_embedding_layer",
]


class UnknownLayerError(LayerError, AttributeError):
    """The model has no module of that name."""


class InterpretableEmbeddingBase(nn.Module):
    """Stands in for an embedding layer and returns the embedding vectors that it is given.

    Everything else that the layer has (``weight``, ``padding_idx`` …) is still found here.

    Args:
        embedding: the layer that it stands in for.
        full_name: dotted path of that layer in its model.
    """

    def __init__(self, embedding: nn.Module, full_name: str) -> None:
        super().__init__()
        self.num_embeddings = getattr(embedding, "num_embeddings", None)
        self.embedding_dim = getattr(embedding, "embedding_dim", None)
        self.embedding = embedding
        self.full_name = full_name
        self.training = embedding.training

    def forward(self, *inputs: object, **kwargs: object) -> object:
        """Return the first argument, else the first keyword argument, as it is.

        Args:
            inputs: the embedding vectors, then whatever the model passes to its embedding layer.
            kwargs: the same by keyword.

        Raises:
            InputError: there are no arguments.
        """
        for value in (*inputs, *kwargs.values()):
            return value
        message = f"the layer {self.full_name!r} was called without arguments; pass it the embedding vectors"
        raise InputError(message)

    def indices_to_embeddings(self, *input: object, **kwargs: object) -> object:  # noqa: A002 - the established name
        """Return what the original layer makes of token ids.

        Args:
            input: token ids, as the original layer takes them.
            kwargs: further arguments of the original layer.

        Returns:
            The embedding vectors, ``(*, D)``.
        """
        return self.embedding(*input, **kwargs)

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "embedding":
                raise
            return getattr(self.embedding, name)


class TokenReferenceBase:
    """Make reference sequences that consist of one token, such as padding.

    Args:
        reference_token_idx: id of that token.

    >>> TokenReferenceBase(reference_token_idx=1).generate_reference(3, device="cpu")
    tensor([1, 1, 1])
    """

    def __init__(self, reference_token_idx: int = 0) -> None:
        self.reference_token_idx = reference_token_idx

    def generate_reference(self, sequence_length: int, device: torch.device | str) -> Tensor:
        """Return the sequence.

        Args:
            sequence_length: number of tokens.
            device: where the tensor lives.

        Returns:
            Token ids ``(sequence_length,)`` of dtype int64.

        Raises:
            InputError: the length or the token id is no whole number, or the length is negative.
        """
        try:
            length, token = operator.index(sequence_length), operator.index(self.reference_token_idx)
        except TypeError:
            found = f"{type(sequence_length).__name__} and {type(self.reference_token_idx).__name__}"
            message = f"sequence_length and reference_token_idx must be whole numbers, got {found}"
            raise InputTypeError(message) from None
        if length < 0:
            message = f"sequence_length must be at least 0, got {length}"
            raise InputError(message)
        return torch.full((length,), token, dtype=torch.long, device=device)


def configure_interpretable_embedding_layer(
    model: nn.Module, embedding_layer_name: str = "embedding"
) -> InterpretableEmbeddingBase:
    """Put an :class:`InterpretableEmbeddingBase` in place of an embedding layer; the model then takes vectors there.

    The model is changed until :func:`remove_interpretable_embedding_layer` is called; :func:`interpretable_embedding`
    does both, also when something fails in between.

    Args:
        model: the model that holds the layer.
        embedding_layer_name: dotted path of the layer, as ``model.named_modules()`` gives it.

    Returns:
        The layer now in place; its ``indices_to_embeddings`` turns token ids into vectors.

    Raises:
        LayerError: the layer is already replaced, or there is none of that name (then also an ``AttributeError``).
    """
    parent, attribute, layer = _find(model, embedding_layer_name)
    if isinstance(layer, InterpretableEmbeddingBase):
        message = (
            f"the layer {embedding_layer_name!r} is already replaced; use the InterpretableEmbeddingBase in place, "
            "or put the original back with remove_interpretable_embedding_layer first"
        )
        raise LayerError(message)
    stand_in = InterpretableEmbeddingBase(layer, embedding_layer_name)
    setattr(parent, attribute, stand_in)
    return stand_in


def remove_interpretable_embedding_layer(model: nn.Module, interpretable_emb: InterpretableEmbeddingBase) -> None:
    """Put the original embedding layer back; does nothing if it already is.

    Args:
        model: the model given to :func:`configure_interpretable_embedding_layer`.
        interpretable_emb: what that function returned.

    Raises:
        LayerError: something else has been put in that place meanwhile.
    """
    name, original = interpretable_emb.full_name, interpretable_emb.embedding
    parent, attribute, layer = _find(model, name)
    if layer is interpretable_emb:
        setattr(parent, attribute, original)
    elif layer is not original:
        message = (
            f"the layer {name!r} is a {type(layer).__name__}, neither the given stand-in nor what it stands in for; "
            "give the model and the object of one call of configure_interpretable_embedding_layer"
        )
        raise LayerError(message)


@contextmanager
def interpretable_embedding(model: nn.Module, name: str = "embedding") -> Generator[InterpretableEmbeddingBase]:
    """Let the model take embedding vectors inside the ``with`` block; the original layer is always put back.

    Args:
        model: the model that holds the layer.
        name: dotted path of the layer.

    Yields:
        The layer in place; its ``indices_to_embeddings`` turns token ids into vectors.

    >>> model = torch.nn.Sequential(torch.nn.Embedding(10, 4), torch.nn.Linear(4, 1))
    >>> with interpretable_embedding(model, "0") as embedding:
    ...     scores = model(embedding.indices_to_embeddings(torch.tensor([3, 1])))
    >>> model[0]
    Embedding(10, 4)
    """
    stand_in = configure_interpretable_embedding_layer(model, name)
    try:
        yield stand_in
    finally:
        remove_interpretable_embedding_layer(model, stand_in)


def _find(model: nn.Module, name: str) -> tuple[nn.Module, str, nn.Module]:
    """Return the module that holds the named layer, the attribute that it is there, and the layer."""
    path, _, attribute = name.rpartition(".")
    try:
        parent = model.get_submodule(path)
        layer = parent.get_submodule(attribute)
    except AttributeError as fault:
        known = _embedding_names(model)
        message = f"{type(model).__name__} has no layer {name!r}; its embedding layers: {known}"
        raise UnknownLayerError(message) from fault
    if not attribute:
        message = "embedding_layer_name is empty; give the dotted path of the layer inside the model"
        raise UnknownLayerError(message)
    return parent, attribute, layer


def _embedding_names(model: nn.Module) -> str:
    names: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            names.append(f"{name!r}")
    return ", ".join(names) or "none"
