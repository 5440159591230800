"""Arithmetic of complex numbers written with real and imaginary parts, so that rules see real numbers only.

A complex product mixes two parts as a matrix mixes inputs, and a rule that shares relevance in proportion has to see
the four real products in it: a rotation of queries by complex numbers has the relevance of one by sines and cosines.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Operators that give complex numbers of real ones.
BEGIN = {"view_as_complex", "complex", "polar"}


def _parts(value: Any) -> tuple[Any, Any]:
    """Real and imaginary part; None for that of a real value."""
    is_complex = value.is_complex() if isinstance(value, Tensor) else isinstance(value, complex)
    return (value.real, value.imag) if is_complex else (value, None)


def _product(a: Any, b: Any, of: Callable[[Any, Any], Tensor]) -> Tensor:
    (ar, ai), (br, bi) = _parts(a), _parts(b)
    if bi is None:
        return torch.complex(of(ar, br), of(ai, br))
    if ai is None:
        return torch.complex(of(ar, br), of(ar, bi))
    return torch.complex(of(ar, br) - of(ai, bi), of(ar, bi) + of(ai, br))


def _mul(a: Any, b: Any) -> Tensor:
    return _product(a, b, lambda x, y: x * y)


def _div(a: Any, b: Any) -> Tensor:
    br, bi = _parts(b)
    if bi is None:
        ar, ai = _parts(a)
        return torch.complex(ar / br, ai / br)
    size = br * br + bi * bi
    inverse = torch.complex(br / size, -bi / size) if isinstance(size, Tensor) else 1 / b
    return _mul(a, inverse)


def _add(a: Any, b: Any, *, alpha: Any = 1) -> Tensor:
    (ar, ai), (br, bi) = _parts(a), _parts(b if alpha == 1 else b * alpha)
    ai, bi = (_nothing(real) if imag is None else imag for real, imag in ((ar, ai), (br, bi)))
    return torch.complex(ar + br, ai + bi)


def _nothing(real: Any) -> Any:
    return torch.zeros_like(real) if isinstance(real, Tensor) else 0.0


def _sub(a: Any, b: Any, *, alpha: Any = 1) -> Tensor:
    return _add(a, -b, alpha=alpha)


def _neg(a: Tensor) -> Tensor:
    return torch.complex(-a.real, -a.imag)


def _conj(a: Tensor) -> Tensor:
    return torch.complex(a.real, -a.imag) if a.is_complex() else a


def _size(a: Tensor) -> Tensor:
    real, imag = a.real, a.imag
    return torch.sqrt(real * real + imag * imag)


def _by_part(of: Callable[..., Tensor], a: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return torch.complex(of(a.real, *args, **kwargs), of(a.imag, *args, **kwargs))


def polar(abs: Tensor, angle: Tensor) -> Tensor:  # noqa: A002  # torch's name
    """R · (cos φ + i sin φ)."""
    return torch.complex(abs * torch.cos(angle), abs * torch.sin(angle))


#: Operators on complex tensors by canonical name.
BY_PARTS: dict[str, Callable[..., Tensor]] = {
    "mul": _mul,
    "div": _div,
    "add": _add,
    "sub": _sub,
    "neg": _neg,
    "conj": _conj,
    "abs": _size,
    **{name: functools.partial(_by_part, getattr(torch, name)) for name in ("sum", "mean", "cumsum")},
    **{name: functools.partial(_product, of=getattr(torch, name)) for name in ("matmul", "mm", "bmm")},
}
