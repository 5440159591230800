"""Where in the photo the numbers of vision transformers are drawn, and what is drawn where nobody can tell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from captum.attr.explaining import explain
from captum.attr.explanation import Explanation
from captum.cli import main
from captum.cli.models import Subject, load
from captum.cli.photo import read
from captum.cli.places import as_list, plane
from captum.errors import CaptumWarning
from tests.unit.cli.photos import factory_file, photo


def explained(folder: Path, factory: str, method: str, layer: str | None) -> tuple[Subject, Explanation]:
    subject = load(f"{factory_file(folder)}:{factory}")
    inputs = subject.prepare(read(photo(folder)))
    found = explain(subject.model, inputs, method, 0, layer=layer, modality=None if layer else "image")
    return subject, found


def test_one_number_per_token_lies_on_the_grid(tmp_path: Path) -> None:
    subject, found = explained(tmp_path, "vision", "attention_rollout", None)
    assert isinstance(found.attributions, Tensor)
    drawn = plane(found, subject)
    assert drawn is not None
    assert torch.equal(drawn, found.attributions[:, 1:].double().view(1, 1, 3, 4))  # the class token has no place


def test_the_units_of_a_layers_tokens_are_summed(tmp_path: Path) -> None:
    subject, found = explained(tmp_path, "vision", "layer_activation", "layer")
    assert isinstance(found.attributions, Tensor)
    drawn = plane(found, subject)
    assert drawn is not None
    torch.testing.assert_close(drawn, found.attributions[:, 1:].double().sum(2).view(1, 1, 3, 4))


@pytest.mark.parametrize(("method", "layer"), [("attention_rollout", None), ("layer_activation", "layer")])
def test_tokens_of_no_certain_grid_become_bars(method: str, layer: str | None, tmp_path: Path) -> None:
    subject, found = explained(tmp_path, "uncertain", method, layer)
    assert plane(found, subject) is None
    with pytest.warns(CaptumWarning, match=r"^Title gives (25|200) numbers .* as bars; to draw a map"):
        listed = as_list(found, "Title")
    labels = [label.get_text() for label in listed.plot().axes[0].get_yticklabels()]
    assert labels[-1].endswith("other features")


def test_units_of_a_layer_without_places_are_no_tokens(tmp_path: Path) -> None:
    """As many units as a map of the photo has spots: a linear layer of 12 beside patches of 3 × 4."""
    subject, found = explained(tmp_path, "vision", "layer_activation", "layer")
    assert isinstance(found.attributions, Tensor)
    units = Explanation(found.attributions[:, 0, :1].expand(1, 12), found.inputs, found.method, layer="layer")
    assert plane(units, subject) is None


@pytest.mark.filterwarnings("always::captum.errors.CaptumWarning")
@pytest.mark.parametrize("factory", ["vision", "uncertain"])
def test_every_method_gets_its_picture(factory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ("--method", "attention_rollout", "--method", "saliency")
    model, out = f"{factory_file(tmp_path)}:{factory}", tmp_path / "out"
    assert main(["explain", str(photo(tmp_path)), "--model", model, "--out", str(out), *methods]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["attention_rollout.png", "index.html", "saliency.png"]
    said = capsys.readouterr().err
    assert said.count("\n") == (factory == "uncertain")
