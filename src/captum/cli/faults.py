"""What went wrong, in one line."""

from __future__ import annotations

from captum.errors import CaptumError

__all__ = ["one_line"]


def one_line(error: Exception) -> str:
    """Return what an error says; one that is not about what was asked for also says how to find where it came from."""
    notes: list[str] = getattr(error, "__notes__", [])
    if isinstance(error, CaptumError):
        return " ".join(str(error).split())
    text = " ".join([" ".join(str(error).split())[:300], *notes]).strip()
    kind = type(error).__name__
    return f"{kind}: {text}; add --traceback to see where" if text else f"{kind}; add --traceback to see where"
