"""HTML that cannot forget to escape: text becomes markup only by going through :func:`tag` or :func:`text`."""

from __future__ import annotations

import html
from collections.abc import Iterable

from captum.attr.visualization.wording import visible

__all__ = ["Markup", "join", "tag", "text"]

_VOID = frozenset({"img", "meta", "br", "col", "hr", "link"})


class Markup(str):
    """A string that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return a value as escaped HTML; markup passes unchanged."""
    return value if isinstance(value, Markup) else Markup(html.escape(visible(str(value)), quote=True))


def tag(element: str, /, *parts: object, **attributes: object) -> Markup:
    """Return one element, every part and attribute value escaped unless it is markup.

    Args:
        element: The element's name, given by this library and never by a user.
        parts: What is inside: markup as it is, anything else as escaped text; ``None`` is left out.
        attributes: Values by name; ``class_`` and ``for_`` lose their underscore, other underscores become hyphens,
            and ``None`` leaves the attribute out.
    """
    written = "".join(f' {_attribute(key)}="{text(value)}"' for key, value in attributes.items() if value is not None)
    if element in _VOID:
        return Markup(f"<{element}{written}>")
    inside = "".join(text(part) for part in parts if part is not None)
    return Markup(f"<{element}{written}>{inside}</{element}>")


def join(parts: Iterable[object]) -> Markup:
    """Return several pieces of markup or text as one."""
    return Markup("".join(text(part) for part in parts))


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
