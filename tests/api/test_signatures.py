"""Our public signatures hold upstream's: every name, order, kind and default (signatures.json: facts of 0.9.0).

A name that our package does not export yet is not looked at; the moment it is exported, its signature counts.
Parameters beyond upstream's are allowed when they are optional. Upstream's ``**kwargs`` may be absent: they only
swallowed mistakes.
"""

from __future__ import annotations

import ast
import enum
import inspect
import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

FACTS: dict[str, dict[str, str | dict[str, str] | None]] = json.loads(
    Path(__file__).with_name("signatures.json").read_text(encoding="utf-8")
)


def exists(package: str) -> bool:
    parts = package.split(".")
    return all(find_spec(".".join(parts[:n])) is not None for n in range(1, len(parts) + 1))


def cases() -> list[tuple[str, str]]:
    """(package, name) of every upstream name that our package of the same path exports."""
    packages = [package for package in FACTS if exists(package)]
    return [(p, name) for p in packages for name in FACTS[p] if name in import_module(p).__all__]


def shown(default: object) -> str:
    return f"{type(default).__name__}.{default.name}" if isinstance(default, enum.Enum) else repr(default)


def agrees(default: object, wanted: ast.expr) -> bool:
    text = ast.unparse(wanted)
    if text == "...":  # a function or an object without a literal
        return default is not inspect.Parameter.empty
    try:
        return bool(default == ast.literal_eval(wanted))
    except ValueError:
        return text in {shown(default), repr(default)}


def parameters(facts: str) -> tuple[list[tuple[str, ast.expr | None]], list[tuple[str, ast.expr | None]], str | None]:
    """Positional and keyword-only (name, default) and the name after ``*`` of a parameter list."""
    function = ast.parse(f"def f({facts}): ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    a = function.args
    defaults: list[ast.expr | None] = [None] * (len(a.args) - len(a.defaults))
    positional = list(zip((x.arg for x in a.args), [*defaults, *a.defaults], strict=True))
    keyword = list(zip((x.arg for x in a.kwonlyargs), a.kw_defaults, strict=True))
    return positional, keyword, a.vararg.arg if a.vararg else None


def differences(facts: str, function: object) -> list[str]:
    """What an upstream call could trip over in ``function``."""
    assert callable(function)
    found = [p for p in inspect.signature(function).parameters.values() if p.name not in {"self", "cls"}]
    by_name = {p.name: p for p in found}
    places = [p.name for p in found if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    positional, keyword, star = parameters(facts)
    wrong: list[str] = []
    if star and not any(p.kind is p.VAR_POSITIONAL for p in found):
        wrong.append(f"*{star} is missing")
    for place, (name, _) in enumerate(positional):
        if places[place : place + 1] != [name]:
            wrong.append(f"position {place} should be {name!r}, not {places[place : place + 1]}")
    for name, default in [*positional, *keyword]:
        ours = by_name.get(name)
        if ours is None:
            wrong.append(f"{name!r} is missing")
        elif (default is None) != (ours.default is ours.empty):
            wrong.append(f"{name!r} should{' ' if default is None else ' not '}be required")
        elif default is not None and not agrees(ours.default, default):
            wrong.append(f"{name!r} defaults to {ours.default!r}, not {ast.unparse(default)}")
    known = {name for name, _ in [*positional, *keyword]}
    variadic = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    wrong += [
        f"{p.name!r} is required here and unknown upstream"
        for p in found
        if p.name not in known and p.default is p.empty and p.kind not in variadic
    ]
    return wrong


@pytest.mark.parametrize(("package", "name"), cases())
def test_signature_holds_upstreams(package: str, name: str) -> None:
    thing, facts = getattr(import_module(package), name), FACTS[package][name]
    if isinstance(facts, str):
        assert differences(facts, thing) == []
    elif isinstance(facts, dict) and inspect.isclass(thing):
        for method, wanted in facts.items():
            assert hasattr(thing, method), f"{name}.{method} is missing"
            assert differences(wanted, getattr(thing, method)) == [], f"{name}.{method}"


@pytest.mark.parametrize(
    ("facts", "ours", "wrong"),
    [
        ("a, b=1", lambda a, b=1: None, 0),
        ("a, b=1", lambda a, b=1, *, c=None: None, 0),
        ("a, b=1", lambda a, b=2: None, 1),
        ("a, b=1", lambda a, b: None, 1),
        ("a, b", lambda b, a: None, 2),
        ("a", lambda a, b: None, 1),
        ("*args", lambda a=1: None, 1),
        ("a, *, b=1", lambda a, c=0, *, b=1: None, 0),
        ("a, b=...", lambda a, b=print: None, 0),
    ],
)
def test_the_comparison_sees_what_a_caller_would_trip_over(facts: str, ours: object, wrong: int) -> None:
    assert len(differences(facts, ours)) == wrong
