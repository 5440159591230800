from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from captum.attr.explanation import Explanation
from captum.attr.results import archive
from captum.errors import InputError, InputTypeError, MissingDependencyError

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.uint8]
tensors = st.builds(
    lambda dtype, shape: (torch.arange(math.prod(shape)) % 2).reshape(shape).to(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
)
plain = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5) | st.floats()
trees = st.recursive(
    tensors | plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


@given(tree=trees)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_tree_comes_back(tree: object, tmp_path: Path) -> None:
    for name in ("folder", "file.safetensors"):
        archive.write({"tree": tree}, tmp_path / name)
        assert same(archive.read(tmp_path / name)["tree"], tree)


def full() -> Explanation:
    x = {"ids": torch.tensor([[1, 2, 0]]), "table": torch.ones(1, 2, dtype=torch.bfloat16), "none": None}
    return Explanation(
        attributions={"ids": torch.tensor([[0.5, -1.0, 0.0]]), "table": torch.ones(1, 2), "none": None},
        inputs=x,
        method="integrated_gradients",
        arguments={"n_steps": 50, "noise_tunnel": {"stdevs": [0.1, 0.2]}},
        targets=((1, 2),),
        scores=torch.tensor([0.7]),
        outputs=torch.tensor([[0.1, 0.7]]),
        residual=torch.tensor([1e-7]),
        class_names=("no", "yes"),
        feature_names={"table": ("age", "debt")},
        tokens=(("a", "b", "[PAD]"),),
        modality="text",
        layer="encoder.0",
        seconds=0.25,
        version="1.0",
        notes=("a note",),
    )


@pytest.mark.parametrize("name", ["result", "result.safetensors", "deep/er/result"])
def test_explanations_come_back_whole(name: str, tmp_path: Path) -> None:
    e = full()
    assert e.save(tmp_path / name) == tmp_path / name
    back = Explanation.load(tmp_path / name)
    for field in e.__dataclass_fields__:
        assert same(getattr(back, field), getattr(e, field)), field
    assert repr(back) == repr(e)


def test_shared_and_strided_tensors_are_saved(tmp_path: Path) -> None:
    x = torch.arange(12.0).reshape(3, 4).t()
    Explanation({"a": x, "b": x}, x, "saliency").save(tmp_path / "e")
    assert torch.equal(Explanation.load(tmp_path / "e").attributions["b"], x)


def test_graph_is_not_saved(tmp_path: Path) -> None:
    x = torch.ones(1, 2, requires_grad=True)
    Explanation(x * 2, x, "saliency").save(tmp_path / "e")
    assert not Explanation.load(tmp_path / "e").attributions.requires_grad


def test_saved_files_hold_no_pickle(tmp_path: Path) -> None:
    full().save(tmp_path / "e")
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == ["explanation.json", "tensors.safetensors"]
    json.loads((tmp_path / "e" / "explanation.json").read_text())
    assert load_file(tmp_path / "e" / "tensors.safetensors")


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputTypeError, match=r"inputs\['f'\].*object"):
        Explanation(torch.ones(1), {"x": torch.ones(1), "f": object()}, "saliency").save(tmp_path / "e")


def test_later_version_is_refused(tmp_path: Path) -> None:
    full().save(tmp_path / "e")
    file = tmp_path / "e" / "explanation.json"
    file.write_text(file.read_text().replace('"version": 1,', '"version": 99,', 1))
    with pytest.raises(InputError, match=r"version 99.*reads version 1"):
        Explanation.load(tmp_path / "e")


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        Explanation.load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 64, b"\x08" + b"\0" * 7 + b'{"a":{}}'])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "e.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="not a saved explanation"):
        Explanation.load(tmp_path / "e.safetensors")


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="not a saved explanation"):
        Explanation.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", 3),
        ("scores", "x"),
        ("seconds", "soon"),
        ("targets", 1),
        ("modality", "smell"),
        ("feature_names", []),
        ("tokens", {"kind": "what"}),
        ("attributions", {"kind": "tensor", "key": "t99"}),
    ],
)
def test_entries_of_another_form_are_refused(key: str, value: object, tmp_path: Path) -> None:
    full().save(tmp_path / "e")
    file = tmp_path / "e" / "explanation.json"
    document = json.loads(file.read_text())
    document["content"][key] = value
    file.write_text(json.dumps(document))
    with pytest.raises(InputError):
        Explanation.load(tmp_path / "e")


def test_missing_entry_is_refused(tmp_path: Path) -> None:
    full().save(tmp_path / "e")
    file = tmp_path / "e" / "explanation.json"
    document = json.loads(file.read_text())
    del document["content"]["inputs"]
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match="inputs"):
        Explanation.load(tmp_path / "e")


def test_without_safetensors_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingDependencyError, match="pip install safetensors"):
        full().save(tmp_path / "e")
