"""HTML that is well formed by construction: names are ours, everything else is escaped."""

from __future__ import annotations

import html

from captum.attr.visualization.wording import visible

__all__ = ["element", "escaped"]


def escaped(text: object) -> str:
    """Text for HTML, inside elements and attribute values alike; control characters become visible escapes."""
    return html.escape(visible(str(text)), quote=True)


def element(name: str, *inside: str, **attributes: object) -> str:
    """One element around markup that is well formed already; attribute values are escaped here."""
    written = "".join(f' {key.rstrip("_")}="{escaped(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(inside)}</{name}>"
