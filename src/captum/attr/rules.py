"""The operators that rule-based methods know, and how to teach them another.

DeepLIFT, guided backpropagation and LRP replace the derivative of operators. They see every call of a torch function,
tensor method or Python operator in the forward pass, and look it up in one table by what *kind* of map it is. An
operator that is not in the table raises :class:`~captum.errors.UnknownOperatorError`, since a wrong derivative would go
unnoticed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from captum._engine.calls import tensors_in
from captum._engine.operators import OPERATORS, SPELLINGS, Kind, Operator, enter
from captum._engine.recurrent import declare_recurrent
from captum._engine.values import describe
from captum.errors import InputError, InputTypeError

__all__ = ["Kind", "Operator", "forget", "operators", "register", "visible"]

declare_recurrent()

KindName = Literal["structural", "linear", "bilinear", "elementwise", "composite", "constant", "stop"]
F = TypeVar("F", bound=Callable[..., Any])

_KINDS: dict[str, Kind] = {
    "structural": Kind.STRUCTURAL,
    "linear": Kind.LINEAR,
    "bilinear": Kind.BILINEAR,
    "elementwise": Kind.ELEMENTWISE,
    "composite": Kind.COMPOSITE,
    "constant": Kind.CONSTANT,
    "stop": Kind.STOP,
}


def operators() -> dict[str, Operator]:
    """All known operators by canonical name.

    Example:
        >>> operators()["gelu"].kind.name
        'ELEMENTWISE'
    """
    return dict(sorted(OPERATORS.items()))


def register(
    function: Callable[..., Any],
    kind: KindName,
    *,
    name: str | None = None,
    smooth: bool = False,
    decompose: Callable[..., Any] | None = None,
) -> Operator:
    """Teach the table an operator.

    Args:
        function: a torch function or method that is not in the table, such as ``torch.special.i1``, or a function
            of your own made :func:`visible`.
        kind: ``"structural"`` (moves elements), ``"linear"`` (affine in all tensors together), ``"bilinear"`` (affine
            in each), ``"elementwise"`` (one element of one tensor to one element), ``"composite"`` (see ``decompose``),
            ``"constant"`` (does not read values) or ``"stop"`` (no derivative).
        name: canonical name; that of the function by default.
        smooth: for element-wise operators, whether the derivative is continuous.
        decompose: for composite operators, the same map written in known operators; gets the same arguments.

    Returns:
        The new entry.

    Raises:
        InputError: when the function or the name is in the table, or the kind needs other arguments.

    Example:
        >>> import torch
        >>> register(torch.special.i1, "elementwise", smooth=True).name
        'special_i1'
        >>> forget(torch.special.i1)
    """
    if not callable(function):
        message = f"Expected a function, got {describe(function)}."
        raise InputTypeError(message)
    if kind not in _KINDS:
        message = f"Expected kind to be one of {list(_KINDS)}, got {kind!r}."
        raise InputError(message)
    if (kind == "composite") != (decompose is not None):
        message = (
            "Composite operators, and only they, take decompose: a function of the same arguments in known operators."
        )
        raise InputError(message)
    chosen = name or getattr(function, "__name__", "")
    if function in SPELLINGS or chosen in OPERATORS or not chosen:
        message = (
            f"Operator {chosen!r} is in the table already, or has no name; pass another name, or forget() it first."
        )
        raise InputError(message)
    operator = Operator(chosen, _KINDS[kind], smooth, decompose)
    OPERATORS[chosen] = operator
    enter(function, operator)
    _ADDED.add(chosen)
    return operator


_ADDED: set[str] = set()


def forget(function: Callable[..., Any]) -> None:
    """Take an operator that :func:`register` added out of the table.

    Args:
        function: the function that was registered.

    Raises:
        InputError: when it was not.
    """
    spelling = SPELLINGS.get(function)
    if spelling is None or spelling.operator.name not in _ADDED:
        message = f"{getattr(function, '__name__', 'The function')} was not registered here; built-in operators stay."
        raise InputError(message)
    del SPELLINGS[function]
    del OPERATORS[spelling.operator.name]
    _ADDED.discard(spelling.operator.name)


def visible(function: F) -> F:
    """Make a function of your own, such as one around an autograd function or a C++ extension, one call for the table.

    Without it the rules see what the function does inside, if that is torch calls, and refuse it otherwise.

    Args:
        function: any function of tensors.

    Returns:
        The function; register it with :func:`register`.

    Example:
        >>> import torch
        >>> @visible
        ... def cube(x):
        ...     return x**3
        >>> cube(torch.tensor(2.0))
        tensor(8.)
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        tensors: list[Tensor] = tensors_in((args, kwargs), [])
        if has_torch_function(tensors):
            return handle_torch_function(call, tensors, *args, **kwargs)
        return function(*args, **kwargs)

    return call  # pyright: ignore[reportReturnType]  # same signature, by wraps
