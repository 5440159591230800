"""Laws let a row give the warning that it gives by design."""

from __future__ import annotations

import pytest

from tests.cases import Case


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore the remark of a row in each of its tests."""
    for item in items:
        called = getattr(item, "callspec", None)
        case = None if called is None else called.params.get("case")
        if isinstance(case, Case) and case.remark:
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{case.remark}"))
