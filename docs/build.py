"""Write docs/reference from the docstrings, one page per package, and check that every link of the documents resolves.

python docs/build.py
"""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
PACKAGES = (
    "captum",
    "captum.attr",
    "captum.attr.games",
    "captum.attr.visualization",
    "captum.attr.targets",
    "captum.attr.rules",
    "captum.attr.composites",
    "captum.influence",
    "captum.concept",
    "captum.metrics",
    "captum.robust",
    "captum.module",
    "captum.insights",
    "captum.linear",
    "captum.log",
    "captum.errors",
)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)|!\[[^\]]*\]\(([^)\s]+)\)")


def documents() -> list[Path]:
    """Every document of the project."""
    return sorted([*ROOT.glob("*.md"), *(path for path in ROOT.glob("docs/**/*.md")), *ROOT.glob("benchmarks/**/*.md")])


def broken_links(path: Path) -> list[str]:
    """Links of a document to files that are not there."""
    found = [first or second for first, second in _LINK.findall(path.read_text(encoding="utf-8"))]
    local = [link for link in found if "://" not in link and not link.startswith("mailto:")]
    return [link for link in local if not (path.parent / link).exists()]


def entry(name: str, thing: object) -> str:
    """One public name: its signature and docstring, and those of the methods that it adds."""
    text = [f"## {name}", "", f"```python\n{name}{signature(thing)}\n```", "", document(thing), ""]
    if inspect.isclass(thing) and not issubclass(thing, BaseException):
        for key, member in vars(thing).items():
            if not key.startswith("_") and callable(getattr(thing, key)) and inspect.getdoc(member):
                text += [f"### {name}.{key}", "", f"```python\n{key}{signature(getattr(thing, key))}\n```", ""]
                text += [document(member), ""]
    return "\n".join(text)


def signature(thing: object) -> str:
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(thing))) if callable(thing) else ""
    except (TypeError, ValueError):
        return "(...)"


def document(thing: object) -> str:
    """The docstring, held apart from Markdown."""
    return f"```text\n{inspect.getdoc(thing) or 'No docstring.'}\n```"


def exists(package: str) -> bool:
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and (package == error.name or package.startswith(f"{error.name}.")):
            return False
        raise
    return True


def build() -> list[Path]:
    """Write the reference."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    written = []
    for package in filter(exists, PACKAGES):
        module = import_module(package)
        names = [name for name in getattr(module, "__all__", []) if not inspect.ismodule(getattr(module, name))]
        things = [(name, getattr(module, name)) for name in names]
        entries = [entry(name, thing) for name, thing in things if callable(thing)]
        page = REFERENCE / f"{package}.md"
        page.write_text("\n".join([f"# {package}", "", inspect.getdoc(module) or "", "", *entries]), encoding="utf-8")
        written.append(page)
    index = [f"- [{page.stem}]({page.name})" for page in written]
    (REFERENCE / "index.md").write_text("\n".join(["# Reference", "", *index, ""]), encoding="utf-8")
    return written


def main() -> int:
    for page in build():
        print(page.relative_to(ROOT))
    broken = {path: broken_links(path) for path in documents()}
    for path, links in broken.items():
        for link in links:
            print(f"{path.relative_to(ROOT)}: {link} is not there", file=sys.stderr)
    return int(any(broken.values()))


if __name__ == "__main__":
    sys.exit(main())
