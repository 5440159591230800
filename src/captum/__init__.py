"""Model interpretability for PyTorch: why did my model say that?"""

from __future__ import annotations

from importlib import import_module

from captum import _legacy

__version__ = "1.0.0.dev0"

_MODULES = ("attr", "concept", "errors", "influence", "linear", "log", "metrics", "module", "robust")
_NAMES = {"Explanation": "captum.attr.explanation", "explain": "captum.attr.explaining"}

__all__ = [*sorted([*_MODULES, *_NAMES]), "__version__"]

_legacy.install()


def __getattr__(name: str) -> object:
    if name in _MODULES or name == "_utils":
        return import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
