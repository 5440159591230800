"""Recollection: what one call found out about a model's convolutions, for the next call on the same model.

Only what the code does is kept (which batch norm follows which convolution, which convolution reads the images), never
a number: the tensors are held weakly, and weights are folded and packed anew in each call. What no longer holds is
noticed while the chunks run, see :mod:`captum._engine.folding`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from captum._engine.convolutions import Convolution, Norm, versions
from captum._engine.entrance import Head

#: Places and shapes remembered of one model.
MOST = 16

_Reference = Callable[[], Tensor | None]


@dataclass(frozen=True)
class Known:
    """How the chunks of a model run: ``on`` is False where its code notices how tensors lie in memory."""

    on: bool = True
    convolutions: dict[int, Convolution] = field(default_factory=dict[int, Convolution])
    head: Head | None = None


@dataclass(frozen=True)
class _Trace:
    """A convolution without its tensors."""

    tensors: tuple[_Reference, _Reference]  # weight, bias
    norm: tuple[tuple[_Reference, ...], float] | None
    plain: bool
    head: dict[str, Any] | None

    @classmethod
    def of(cls, convolution: Convolution, head: Head | None) -> _Trace:
        """What is kept of a convolution."""
        norm = convolution.norm
        return cls(
            (_reference(convolution.weight), _reference(convolution.bias)),
            None if norm is None else (tuple(map(_reference, norm.tensors)), norm.eps),
            convolution.plain,
            head.call if head is not None and head.convolution is convolution else None,
        )

    def recall(self) -> Convolution | None:
        """The convolution with its tensors as they are now; None when they are gone."""
        weight, bias = (t() for t in self.tensors)
        if weight is None or (bias is None and self.tensors[1] is not _nothing):
            return None
        norm = None
        if self.norm is not None:
            tensors = tuple(t() for t in self.norm[0])
            if any(t is None and r is not _nothing for t, r in zip(tensors, self.norm[0], strict=True)):
                return None
            norm = Norm(tensors, self.norm[1], versions(tensors))
        return Convolution(weight, bias, versions((weight, bias)), norm, self.plain)


_TRACES: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, tuple[bool, list[_Trace]]]] = weakref.WeakKeyDictionary()


class Recollection:
    """What is known about one model, for variables of given shapes at a given place.

    Args:
        owner: the user's forward function; only of modules is anything kept.
        place: modules whose values are read meanwhile.
        tensors: the variable.
    """

    def __init__(self, owner: object, place: Sequence[nn.Module], tensors: Sequence[Tensor]) -> None:
        self._owner = owner if isinstance(owner, nn.Module) else None
        self._key = (tuple(map(id, place)), tuple((t.shape[1:], t.dtype) for t in tensors))

    def recall(self) -> Known | None:
        """What is known; None for nothing."""
        found = {} if self._owner is None else _TRACES.get(self._owner, {})
        if self._key not in found:
            return None
        on, traces = found[self._key]
        convolutions: dict[int, Convolution] = {}
        head: Head | None = None
        for trace in traces:
            convolution = trace.recall()
            if convolution is None:
                return None
            convolutions[id(convolution.weight)] = convolution
            head = head if trace.head is None else Head(convolution, trace.head)
        return Known(on, convolutions, head)

    def keep(self, known: Known) -> None:
        """Remember what was found out."""
        if self._owner is None:
            return
        found = _TRACES.setdefault(self._owner, {})
        for old in list(found)[: len(found) + 1 - MOST]:
            found.pop(old, None)
        found[self._key] = (known.on, [_Trace.of(c, known.head) for c in known.convolutions.values()])

    def forget(self) -> None:
        """Forget it: the model does otherwise now."""
        if self._owner is not None:
            _TRACES.get(self._owner, {}).pop(self._key, None)


def _nothing() -> None:
    return None


def _reference(tensor: Tensor | None) -> _Reference:
    return _nothing if tensor is None else weakref.ref(tensor)
