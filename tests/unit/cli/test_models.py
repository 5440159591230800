"""Models by name: the built-in network, packages of models, folders and factories."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
import torch
from PIL import Image
from torch import nn

from captum.cli.defaults import superpixels
from captum.cli.models import load
from captum.cli.models.subject import Scaling, Subject, pixels
from captum.cli.photo import chelsea, read, references
from captum.cli.request import target_index
from captum.errors import InputError, MissingDependencyError
from tests.unit.cli.photos import factory_file, photo


def test_the_built_in_network_sees_a_cat() -> None:
    subject = load("efficientnet-lite0")
    inputs = subject.prepare(chelsea())
    with torch.no_grad():
        best = subject.model(inputs).softmax(1)[0].topk(4)
    names = [subject.label(int(index)) for index in best.indices]
    assert names[0] == "Egyptian cat"
    assert float(best.values[0]) == pytest.approx(0.79, abs=0.01)
    assert {"tiger cat", "tabby, tabby cat"} < set(names)
    assert not subject.model.training
    assert len(subject.labels) == 1000
    assert subject.layer in subject.modules()


def test_scaling_is_resize_crop_and_normalise() -> None:
    ramp = Image.new("RGB", (40, 20))
    ramp.putdata([(x * 6, 0, 255) for _ in range(20) for x in range(40)])
    whole = Scaling((20, 40), None, (0.5, 0.0, 1.0), (0.5, 1.0, 2.0))(ramp)
    expected = (torch.arange(40) * 6 / 255 - 0.5) / 0.5
    assert torch.allclose(whole[0, 0, 7], expected, atol=1e-6)
    assert torch.allclose(whole[0, 2], torch.zeros(20, 40), atol=1e-6)
    middle = Scaling((10, 10), 0.5, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "nearest")
    assert middle.window(ramp) == (15.0, 5.0, 25.0, 15.0)
    assert torch.allclose(middle(ramp)[0, 0, 0] * 255, torch.arange(15, 25) * 6.0)


def test_pixels_are_in_0_to_1(tmp_path: Path) -> None:
    value = pixels(read(photo(tmp_path)))
    assert value.shape == (1, 3, 18, 24)
    assert torch.allclose(value[0, :, 0, 0] * 255, torch.tensor([200.0, 180.0, 160.0]))
    assert float(value[..., 12:].sum()) == 0


def test_references_show_nothing(tmp_path: Path) -> None:
    picture = read(photo(tmp_path))
    subject = Subject("x", nn.Identity(), pixels)
    drawn = references(picture, subject)
    assert drawn.shape == (4, 3, 18, 24)
    assert [float(row.flatten()[0]) for row in drawn[:3]] == pytest.approx([0, 128 / 255, 1])
    assert float(drawn[3].std()) < float(pixels(picture).std())


def test_a_factory_brings_preprocessing_and_names(tmp_path: Path) -> None:
    path = factory_file(tmp_path)
    full = load(f"{path}:full")
    assert full.prepare(read(photo(tmp_path))).shape == (1, 3, 12, 16)
    assert full.labels == {0: "right", 1: "left"}
    assert not full.model.training
    bare = load(f"{path}:bare")
    assert bare.prepare(read(photo(tmp_path))).shape == (1, 3, 18, 24)
    assert bare.label(1) == "class 1"
    assert str(tmp_path) not in sys.path


def test_a_folder_of_transformers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    names = {0: "cat", 1: "dog"}
    configuration = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=16,
        patch_size=8,
        id2label=names,
    )
    model = transformers.ViTForImageClassification(configuration).eval()
    model.save_pretrained(tmp_path)
    capfd.readouterr()
    subject = load(str(tmp_path))
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()
    inputs = subject.prepare(Image.new("RGB", (30, 20), (255, 0, 0)))
    assert inputs.shape == (1, 3, 16, 16)
    assert torch.allclose(inputs[0, :, 0, 0], torch.tensor([1.0, -1.0, -1.0]))
    assert dict(subject.labels) == names
    with torch.no_grad():
        assert torch.equal(subject.model(inputs).logits, model(inputs).logits)
    with pytest.raises(InputError, match="there is no model"):
        load(str(tmp_path / "absent"))


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no image classifier"):
        load(str(tmp_path))


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_package_that_is_absent(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"pip install {package}"):
        load(f"{package}:resnet18")


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    return module


class Weights:
    """What a member of a torchvision weights enumeration offers."""

    url = "https://example.org/models/net-1a2b.pth"
    meta: ClassVar = {"categories": ["cat", "dog"]}

    def transforms(self) -> object:
        return lambda photo: pixels(photo)[0] * 2 - 1


def test_torchvision_uses_the_weights_own_transforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def weights(name: str) -> object:
        if name != "net":
            raise ValueError(name)
        return SimpleNamespace(DEFAULT=Weights())

    asked: list[object] = []
    stand_in(monkeypatch, "torchvision")
    stand_in(
        monkeypatch,
        "torchvision.models",
        get_model_weights=weights,
        get_model=lambda name, weights: asked.append((name, weights.url)) or nn.Linear(2, 2),
    )
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match="--download"):
        load("torchvision:net")
    with pytest.raises(InputError, match="no model 'nett'"):
        load("torchvision:nett")
    assert not asked
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "net-1a2b.pth").touch()
    subject = load("torchvision:net")
    assert asked == [("net", Weights.url)]
    assert subject.label(1) == "dog"
    assert float(subject.prepare(Image.new("RGB", (4, 4), (255, 255, 255))).min()) == pytest.approx(1)


def test_timm_uses_the_weights_own_scaling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "input_size": (3, 8, 8),
        "crop_pct": 1.0,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bicubic",
    }
    stand_in(
        monkeypatch,
        "timm",
        is_model=lambda name: name == "net",
        get_pretrained_cfg=lambda name: SimpleNamespace(hf_hub_id=None, url="https://x.org/net.pth", num_classes=1000),
        create_model=lambda name, pretrained: nn.Conv2d(3, 1000, 8),
    )
    stand_in(monkeypatch, "timm.data", resolve_model_data_config=lambda model: settings)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match="--download"):
        load("timm:net")
    with pytest.raises(InputError, match="no model 'nett'"):
        load("timm:nett")
    subject = load("timm:net", download=True)
    inputs = subject.prepare(Image.new("RGB", (30, 20), (255, 255, 255)))
    assert inputs.shape == (1, 3, 8, 8)
    assert float(inputs.mean()) == pytest.approx(1, abs=1e-6)
    assert subject.label(285) == "Egyptian cat"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("resnet18", "torchvision:NAME"), ("mine.py", "mine.py:FACTORY"), ("mine.py:make", "no file mine.py")],
)
def test_a_name_of_no_form(name: str, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        load(name)


LABELS = {0: "tabby cat", 1: "tiger cat", 2: "cat", 3: "dog"}


@pytest.mark.parametrize(("text", "index"), [("argmax", 3), ("1", 1), ("cat", 2), ("Tabby", 0), ("DOG", 3)])
def test_a_target_by_number_or_name(text: str, index: int) -> None:
    assert target_index(text, Subject("x", nn.Identity(), pixels, LABELS), best=3, classes=4) == index


@pytest.mark.parametrize("text", ["4", "-1", "t", "fish"])
def test_a_target_that_means_no_class_or_several(text: str) -> None:
    with pytest.raises(InputError, match=r"outside|several|no class"):
        target_index(text, Subject("x", nn.Identity(), pixels, LABELS), best=3, classes=4)


def test_superpixels_follow_the_photo_or_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.nn.functional.interpolate(pixels(read(photo(tmp_path))), (48, 64))
    mask = superpixels(inputs)
    assert mask.shape == (1, 1, 48, 64)
    assert sorted(set(mask.flatten().tolist())) == list(range(int(mask.max()) + 1))
    left, right = set(mask[..., :31].flatten().tolist()), set(mask[..., 33:].flatten().tolist())
    assert not left & right  # no region crosses the edge between bright and dark
    monkeypatch.setattr("captum.cli.defaults.find_spec", lambda name: None)
    assert len(superpixels(inputs).unique()) == 64
