"""One torch call with increments among its arguments, as a rule sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from captum._engine.boxes import Span
from captum._engine.calls import leaves_in
from captum._engine.convolutions import Convolution
from captum._engine.increments import Increment, Unchanged

#: Above this share of a map, computing all of it is faster than cutting boxes out.
MOST = 0.8


class IncrementCall:
    """One call with increments among its arguments.

    Attributes:
        function: what is called; changes none of its arguments.
        args: positional arguments, with increments in the place of tensors.
        kwargs: named arguments.
        increments: the increments among all of them.
        convolutions: those with prepared weights, by the ``id`` of their weight.
        large: set by a rule when the whole map is asked for because the boxes cover most of it.
    """

    __slots__ = ("args", "convolutions", "function", "increments", "kwargs", "large", "most")

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        most: float,
        convolutions: Mapping[int, Convolution],
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.increments = leaves_in((args, kwargs), [], Increment)
        self.large = False
        self.most = most
        self.convolutions = convolutions

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    @property
    def first(self) -> Increment | None:
        """The first argument, when it is the only increment."""
        alone = len(self.increments) == 1 and bool(self.args) and self.args[0] is self.increments[0]
        return self.increments[0] if alone else None

    def run(self, change: Callable[[Any], Any]) -> Any:
        """Call the function with every tensor and increment replaced."""
        return self.function(*changed(self.args, change), **changed(self.kwargs, change))

    def base(self, part: int | None = None) -> Unchanged:
        """What the call makes of the unchanged examples."""
        arguments = changed((self.args, self.kwargs), lambda v: v.base if isinstance(v, Increment) else v)
        return self.increments[0].base.through(self.function, arguments, part)

    def fits(self, y: Span, x: Span) -> bool:
        """Whether boxes are small enough to be worth while."""
        self.large = y.length * x.length > self.most * y.size * x.size
        return not self.large


def changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure with ``change`` applied to what is no list, tuple or dict."""
    if isinstance(value, (list, tuple)):
        parts = [changed(part, change) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, dict):
        return {k: changed(v, change) for k, v in value.items()}
    return change(value)
