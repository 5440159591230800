"""Names for the types of inputs, baselines and targets."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Sequence
from typing import Any, List, Literal, Optional, Protocol, Tuple, TypeVar, Union, overload, runtime_checkable  # noqa: UP035

from torch import Tensor
from torch.nn import Module

__all__ = [
    "BaselineTupleType",
    "BaselineType",
    "BatchEncodingType",
    "List",
    "Literal",
    "Module",
    "ModuleOrModuleList",
    "Optional",
    "PassThroughOutputType",
    "Protocol",
    "SliceIntType",
    "TargetType",
    "Tensor",
    "TensorLikeList",
    "TensorLikeList1D",
    "TensorLikeList2D",
    "TensorLikeList3D",
    "TensorLikeList4D",
    "TensorLikeList5D",
    "TensorOrTupleOfTensorsGeneric",
    "TokenizerLike",
    "Tuple",
    "TupleOrTensorOrBoolGeneric",
    "TypeVar",
    "Union",
    "UserDict",
    "overload",
]

TensorOrTupleOfTensorsGeneric = TypeVar("TensorOrTupleOfTensorsGeneric", Tensor, tuple[Tensor, ...])
TupleOrTensorOrBoolGeneric = TypeVar("TupleOrTensorOrBoolGeneric", Tensor, tuple[Tensor, ...], bool)
ModuleOrModuleList = TypeVar("ModuleOrModuleList", Module, list[Module])
PassThroughOutputType = TypeVar("PassThroughOutputType")

TargetType = None | int | tuple[int, ...] | Tensor | list[tuple[int, ...]] | list[int]
BaselineTupleType = None | tuple[Tensor | int | float, ...]
BaselineType = None | Tensor | int | float | tuple[Tensor | int | float, ...]
SliceIntType = slice | int

TensorLikeList1D = list[float]
TensorLikeList2D = list[list[float]]
TensorLikeList3D = list[list[list[float]]]
TensorLikeList4D = list[list[list[list[float]]]]
TensorLikeList5D = list[list[list[list[list[float]]]]]
TensorLikeList = TensorLikeList1D | TensorLikeList2D | TensorLikeList3D | TensorLikeList4D | TensorLikeList5D

BatchEncodingType = UserDict[Union[int, str], Any]  # noqa: UP007 - evaluated where ``X | Y`` of a string would not be


@runtime_checkable
class TokenizerLike(Protocol):
    """What is used of a tokenizer."""

    def encode(self, text: str, add_special_tokens: bool = True, return_tensors: str | None = None) -> Any:
        """Token ids of a text."""
        ...

    def decode(self, token_ids: Any) -> str:
        """The text of token ids."""
        ...

    def convert_ids_to_tokens(self, token_ids: Any) -> Sequence[str] | str:
        """The tokens of token ids."""
        ...

    def convert_tokens_to_ids(self, tokens: Any) -> list[int] | int:
        """The ids of tokens."""
        ...

    def __call__(self, text: Any, **kwargs: Any) -> Any:
        """Token ids and masks of a text."""
        ...
