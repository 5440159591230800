"""Interpretable inputs: a text as a few features, each present or replaced, and back to what the model takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from captum._engine.values import describe
from captum.errors import InputError, InputTypeError, MaskError

__all__ = ["InterpretableInput", "TextTemplateInput", "TextTokenInput", "Tokenizer"]

Values = list[str] | dict[str, str]


class Tokenizer(Protocol):
    """What is asked of a tokenizer; those of ``transformers`` have it."""

    def encode(self, text: str, /, **options: Any) -> Any:
        """Token ids of a text."""
        ...

    def decode(self, ids: Any, /, **options: Any) -> str:
        """The text of token ids."""
        ...

    def convert_ids_to_tokens(self, ids: Any, /) -> Any:
        """The tokens of ids."""
        ...

    def convert_tokens_to_ids(self, tokens: Any, /) -> Any:
        """The ids of tokens."""
        ...


class InterpretableInput(ABC):
    """An input as features ``(1, M)`` that a perturbation method can switch.

    Attributes:
        n_itp_features: number of features ``M``.
        values: a name of each feature, or of each part that has a score.
    """

    n_itp_features: int
    values: list[str]

    @abstractmethod
    def to_tensor(self) -> Tensor:
        """The features of the unchanged input, ``(1, M)``."""

    @abstractmethod
    def to_model_input(self, perturbed_tensor: Tensor | None = None) -> Any:
        """What the model takes.

        Args:
            perturbed_tensor: features ``(1, M)``, as :meth:`to_tensor` gives them where a feature is present; None
                (default) for the unchanged input.

        Returns:
            A text, token ids ``(1, L)``, or what else the model takes.
        """

    def format_attr(self, itp_attr: Tensor) -> Tensor:
        """Scores of features ``(*, M)`` as scores of :attr:`values`; here they are the same."""
        return itp_attr


def present_of(perturbed: Tensor, features: int) -> list[bool]:
    """Which features of a perturbed tensor ``(1, M)`` or ``(M,)`` are present: those that are not zero."""
    if perturbed.numel() != features:
        message = f"Expected a perturbed tensor of {features} features, (1, {features}), got {describe(perturbed)}."
        raise InputError(message)
    return perturbed.reshape(-1).bool().tolist()


class TextTemplateInput(InterpretableInput):
    """A text with places that are filled by values or, when absent, by baselines.

    Args:
        template: for ``str.format``, or a function of the values that returns the text.
        values: a list for places by number, or a dict for places by name.
        baselines: in the form of ``values``, or a function that returns such, called for each perturbed text; None
            (default) for empty texts.
        mask: in the form of ``values``, group ids: values of one id are one feature; None (default) for each its own.

    Raises:
        InputError: when forms or lengths do not agree.

    Example:
        >>> inp = TextTemplateInput("{} lives in {}.", ["Ann", "Oslo"], baselines=["Bob", "Rome"])
        >>> inp.to_model_input(torch.tensor([[1.0, 0.0]]))
        'Ann lives in Rome.'
    """

    def __init__(
        self,
        template: str | Callable[..., str],
        values: Sequence[str] | Mapping[str, str],
        baselines: Values | Callable[[], Values] | None = None,
        mask: list[Any] | dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(values, (list, dict)):
            message = f"Expected values as a list or a dict of texts, got {describe(values)}."
            raise InputTypeError(message)
        if not (isinstance(template, str) or callable(template)):
            message = f"Expected the template as a string or a function of the values, got {describe(template)}."
            raise InputTypeError(message)
        self.template = template
        self.format_fn = template.format if isinstance(template, str) else template
        self.dict_keys = list(values) if isinstance(values, dict) else []
        self._named = isinstance(values, dict)
        self.values = self._in_order(values, "values")
        self.n_features = len(self.values)
        self.baselines: list[Any] | Callable[[], Any]
        if baselines is None:
            self.baselines = [""] * self.n_features
        else:
            self.baselines = baselines if callable(baselines) else self._in_order(baselines, "baselines")
        self.mask = None if mask is None else self._in_order(mask, "mask")
        ids = list(range(self.n_features)) if self.mask is None else self.mask
        known = {one: place for place, one in enumerate(_sorted(set(ids)))}
        self.formatted_mask = [known[one] for one in ids]
        self.n_itp_features = len(known)

    def to_tensor(self) -> Tensor:
        """Ones ``(1, M)``."""
        return torch.ones((1, self.n_itp_features), device="cpu")

    def to_model_input(self, perturbed_tensor: Tensor | None = None) -> str:
        """The text with the values of present features, and baselines for those that are zero; see the base class."""
        parts = self.values
        if perturbed_tensor is not None:
            present = present_of(perturbed_tensor, self.n_itp_features)
            others = self._in_order(self.baselines(), "baselines") if callable(self.baselines) else self.baselines
            pairs = zip(self.formatted_mask, self.values, others, strict=True)
            parts = [value if present[group] else other for group, value, other in pairs]
        if self._named:
            return self.format_fn(**dict(zip(self.dict_keys, parts, strict=True)))
        return self.format_fn(*parts)

    def format_attr(self, itp_attr: Tensor) -> Tensor:
        """Scores of groups ``(*, M)`` as scores of values: each has that of its group."""
        return itp_attr[..., torch.tensor(self.formatted_mask, device=itp_attr.device)]

    def _in_order(self, given: object, what: str) -> list[Any]:
        """Entries in the order of the values."""
        if self._named:
            if not isinstance(given, dict) or set(given) != set(self.dict_keys):
                message = (
                    f"Expected {what} as a dict with the keys of the values, {self.dict_keys}, got {describe(given)}."
                )
                raise InputError(message)
            return [given[key] for key in self.dict_keys]
        count = len(given) if isinstance(given, list) else -1
        if not isinstance(given, list) or (what != "values" and count != len(self.values)):
            message = f"Expected {what} as a list of {len(self.values)}, like the values, got {describe(given)}."
            raise InputError(message)
        return list(given)


def _sorted(ids: set[Any]) -> list[Any]:
    try:
        return sorted(ids)
    except TypeError:
        message = (
            f"Expected group ids of one kind in mask, such as ints, got {sorted({type(i).__name__ for i in ids})}."
        )
        raise MaskError(message) from None


class TextTokenInput(InterpretableInput):
    """A text as its tokens; absent ones are replaced by a baseline token.

    Args:
        text: the text.
        tokenizer: gives the ids, special tokens included.
        baselines: id or token that stands in the place of absent ones (default 0).
        skip_tokens: ids or tokens that are always present and have no score, such as special tokens.

    Attributes:
        values: the tokens that have a score.
        inp_tensor: all ids, ``(1, L)``.
        itp_tensor: ids of the tokens that have a score, ``(1, M)``.
        itp_mask: which tokens have a score, bool ``(1, L)``; None for all.

    Raises:
        InputError: when a token is not in the vocabulary.
    """

    def __init__(
        self,
        text: str,
        tokenizer: Tokenizer,
        baselines: int | str = 0,
        skip_tokens: Sequence[int | str] | None = None,
    ) -> None:
        self.inp_tensor = torch.as_tensor(tokenizer.encode(text, return_tensors="pt")).reshape(1, -1)
        self.itp_mask: Tensor | None = None
        self.itp_tensor = self.inp_tensor
        self.skip_tokens = None
        if skip_tokens:
            self.skip_tokens = [_id(tokenizer, token) for token in skip_tokens]
            self.itp_mask = ~torch.isin(self.inp_tensor, torch.tensor(self.skip_tokens))
            self.itp_tensor = self.inp_tensor[self.itp_mask][None]
        self.values = list(tokenizer.convert_ids_to_tokens(self.itp_tensor[0].tolist()))
        self.tokenizer = tokenizer
        self.n_itp_features = len(self.values)
        self.baselines = _id(tokenizer, baselines)

    def to_tensor(self) -> Tensor:
        """Ones ``(1, M)``."""
        return torch.ones_like(self.itp_tensor)

    def to_model_input(self, perturbed_tensor: Tensor | None = None) -> Tensor:
        """Token ids ``(1, L)``; entries that are not 1 become the baseline. See the base class."""
        ids = self.inp_tensor.clone()
        if perturbed_tensor is None:
            return ids
        present_of(perturbed_tensor, self.n_itp_features)
        kept = (perturbed_tensor.reshape(1, -1) == 1).to(ids.device)
        own = torch.where(kept, self.itp_tensor, self.baselines)
        if self.itp_mask is None:
            return own
        ids[self.itp_mask] = own[0]
        return ids


def _id(tokenizer: Tokenizer, token: int | str) -> int:
    """The id of a token; ids are themselves."""
    if not isinstance(token, str):
        return int(token)
    found = tokenizer.convert_tokens_to_ids(token)
    unknown = getattr(tokenizer, "unk_token_id", None)
    if found is None or (found == unknown and token != getattr(tokenizer, "unk_token", None)):
        message = f"The token {token!r} is not in the tokenizer's vocabulary: pass one of its tokens, or an id."
        raise InputError(message)
    return int(found)
