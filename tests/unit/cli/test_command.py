"""The command line from outside: what is typed, what is written, what is said when it goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import captum
from captum.attr.registry import METHODS
from captum.cli import main, run
from tests.unit.cli.photos import factory_file, photo


@pytest.fixture
def here(tmp_path: Path) -> Path:
    photo(tmp_path)
    factory_file(tmp_path)
    return tmp_path


def explain(here: Path, *options: str, factory: str = "full") -> int:
    model = f"{here / 'mine.py'}:{factory}"
    return main(["explain", str(here / "photo.png"), "--model", model, "--out", str(here / "out"), *options])


def width(picture: Path) -> int:
    with Image.open(picture) as image:
        return image.width


def test_explain_writes_a_picture_per_method_and_a_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ("saliency", "integrated_gradients+vargrad")
    code = explain(here, *(part for method in methods for part in ("--method", method)), "--set", "nt_samples=2")
    said = capsys.readouterr().out
    assert code == 0
    pictures = [here / "out" / name for name in ("saliency.png", "integrated_gradients_vargrad.png")]
    for picture in pictures:
        assert str(picture) in said
        assert width(picture) > 600
    page = (here / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1 + len(pictures)
    assert "http" not in page.replace("http-equiv", "")
    assert "Why “left”?" in page


def test_json_holds_what_the_library_computes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(here, "--json", "--target", "right", "--n-steps", "7", "--save") == 0
    folder = here / "out" / "integrated_gradients"
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert result["target"]["name"] == "right"
    assert result["target"]["index"] == 0
    assert [one["name"] for one in result["predictions"]] == ["left", "right"]
    assert sum(one["probability"] for one in result["predictions"]) == pytest.approx(1)
    assert "Explaining 'right'" in said.err
    assert result["methods"][0]["saved"] == str(folder)
    assert f"  {folder}{os.sep} " in said.err
    saved = captum.Explanation.load(folder)
    assert saved.arguments["n_steps"] == 7
    assert isinstance(saved.attributions, torch.Tensor)
    # the score of "right" is linear above zero: attributions stay in the right half, up to the reach of one convolution
    assert saved.attributions.shape == (1, 3, 12, 16)
    assert float(saved.attributions[..., :7].abs().sum()) == 0


def test_the_quadrature_of_path_methods_can_be_set(here: Path) -> None:
    assert explain(here, "--set", "quadrature=riemann_left", "--n-steps", "3", "--save") == 0
    saved = captum.Explanation.load(here / "out" / "integrated_gradients")
    assert saved.arguments["quadrature"] == "riemann_left"


def test_layer_methods_take_the_last_maps_or_the_named_layer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(here, "--method", "layer_activation", "--json") == 0
    assert json.loads(capsys.readouterr().out)["methods"][0]["layer"] == "relu"
    assert explain(here, "--method", "layer_activation", "--layer", "conv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["methods"][0]["layer"] == "conv"
    assert explain(here, "--layer", "conv") == 2
    assert "no chosen method looks at a layer, so --layer conv says nothing" in capsys.readouterr().err


def test_titles_are_spelled_as_in_the_literature(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--method", "layer_grad_cam", "--method", "saliency+vargrad", "--set", "variant=layer_cam")
    assert explain(here, *options, "--set", "nt_samples=2") == 0
    said = capsys.readouterr().out
    page = (here / "out" / "index.html").read_text(encoding="utf-8")
    for title in ("LayerCAM (layer)", "Saliency + VarGrad"):
        assert f"  {title}  " in said
        assert f">{title}</h2>" in page
        assert f"map of {title}" in page


def test_a_method_named_twice_counts_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(here, "--method", "saliency", "--method", "Saliency", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["methods"]) == 1


def test_same_seed_same_numbers(here: Path) -> None:
    maps = []
    for seed in ("3", "3", "4"):
        torch.rand(1)  # the global generator has moved on meanwhile
        assert explain(here, "--method", "saliency+smoothgrad", "--seed", seed, "--save") == 0
        maps.append(captum.Explanation.load(here / "out" / "saliency_smoothgrad").attributions)
    assert torch.equal(maps[0], maps[1])


MISTAKES = {
    "unknown method": (["--method", "salience"], "saliency"),
    "unknown averaging": (["--method", "saliency+smooth"], "saliency+smoothgrad"),
    "unknown class": (["--target", "upside"], "no class of"),
    "class outside": (["--target", "2"], "0 to 1"),
    "unknown layer": (["--method", "layer_activation", "--layer", "conf"], "near it: conv"),
    "argument of no method": (["--set", "n_stepz=3"], "n_steps"),
    "not a pair": (["--set", "n_steps"], "KEY=VALUE"),
    "zero steps": (["--n-steps", "0"], "above 0"),
    "no neuron": (["--method", "neuron_gradient"], "--set neuron_selector=…: an index"),
    "no groups": (["--method", "owen_values"], "--set groups=…: nested lists"),
    "refused by the method": (["--set", "n_steps=-3"], "n_steps"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_remedy(mistake: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, remedy = MISTAKES[mistake]
    try:
        code: object = explain(here, *options)
    except SystemExit as stop:  # argparse leaves by itself
        code = stop.code
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("captum: error: ")
    assert said.count("\n") == 1
    assert remedy in said


def test_a_method_that_fails_does_not_keep_the_others_from_the_page(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ("--method", "integrated_gradients", "--method", "saliency", "--method", "occlusion")
    bad = ("--set", "n_steps=-3", "--set", "sliding_window_shapes=(3, 99, 99)")
    assert explain(here, *methods, *bad, "--json") == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert [one["method"] for one in result["methods"]] == ["saliency"]
    assert [one["method"] for one in result["failures"]] == ["integrated_gradients", "occlusion"]
    assert "n_steps" in result["failures"][0]["error"]
    assert said.err.count("captum: error: ") == 2
    assert f"captum: error: Integrated Gradients: {result['failures'][0]['error']}\n" in said.err
    page = (here / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "<li>Integrated Gradients: " in page
    assert sorted(path.name for path in (here / "out").iterdir()) == ["index.html", "saliency.png"]


def test_an_interruption_leaves_a_page_of_what_is_done(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run.explain

    def impatient(*given: object, **options: object) -> object:
        if "input_x_gradient" in given:
            raise KeyboardInterrupt
        return done(*given, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(run, "explain", impatient)
    methods = [word for name in ("saliency", "input_x_gradient", "lrp") for word in ("--method", name)]
    assert explain(here, *methods, "--json") == 130
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == "captum: interrupted"
    assert "error" not in said.err
    told = json.loads(said.out)
    assert [one["method"] for one in told["methods"]] == ["saliency"]
    assert [(one["method"], one["error"]) for one in told["failures"]] == [
        ("input_x_gradient", "not done: interrupted"),
        ("lrp", "not done: interrupted"),
    ]
    page = (here / "out" / "index.html").read_text(encoding="utf-8")
    assert "Saliency</h2>" in page
    assert "<li>LRP: not done: interrupted</li>" in page
    (here / "out" / "index.html").unlink()
    assert explain(here, *methods[2:]) == 130
    assert not (here / "out" / "index.html").exists()


def test_when_every_method_fails_there_is_no_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ("--method", "integrated_gradients", "--method", "gradient_shap")
    assert explain(here, *methods, "--set", "n_steps=-3", "--set", "n_samples=-3", "--json") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("captum: error: ") == 2
    assert not (here / "out" / "index.html").exists()


FACTORIES = {
    "wrong": "must return an nn.Module",
    "broken": "RuntimeError: no such weights",
    "bad_prepare": "must return a tensor (C, H, W)",
    "absent": "defines no function 'absent'",
    "lost": "check its weights",
    "maps": "must return one score per class",
}


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_factory_that_cannot_be_used(factory: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(here, factory=factory) == 2
    said = capsys.readouterr().err
    assert FACTORIES[factory] in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("photo_name", "words"), [("none.jpg", "no file"), ("mine.py", "cannot be read as a picture")])
def test_a_photo_that_is_none(photo_name: str, words: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(here / photo_name), "--model", "efficientnet-lite0"]) == 2
    assert words in capsys.readouterr().err


def test_the_output_folder_may_not_be_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(here, "--out", str(here / "photo.png")) == 2
    assert "is a file" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(here, "--out", str(here / "photo.png" / "below")) == 2
    assert "cannot be made" in capsys.readouterr().err


def test_a_model_may_answer_with_a_dict(here: Path) -> None:
    assert explain(here, factory="keyed") == 0


def test_a_result_without_places_is_drawn_as_it_is(here: Path) -> None:
    assert explain(here, "--method", "layer_activation", "--layer", "1", factory="flat") == 0
    assert width(here / "out" / "layer_activation.png") > 100


def test_labels_cannot_break_the_page(here: Path) -> None:
    source = (here / "mine.py").read_text(encoding="utf-8")
    (here / "mine.py").write_text(source.replace('"left"', '"<img onerror=x> $a$"'), encoding="utf-8")
    assert explain(here, "--method", "saliency") == 0
    page = (here / "out" / "index.html").read_text(encoding="utf-8")
    assert "<img onerror" not in page
    assert "&lt;img onerror=x&gt; $a$" in page


def test_methods_lists_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for row in METHODS.values():
        assert any(line.split()[:1] == [row.name] and line.endswith(row.summary) for line in lines)
    assert main(["methods", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == list(METHODS)


def test_version_and_module() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(captum.__file__).parents[1])}
    command = [sys.executable, "-m", "captum", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.strip() == f"captum {captum.__version__}"


def test_an_unexpected_fault_is_one_line_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (here / "mine.py").read_text(encoding="utf-8")
    (here / "mine.py").write_text(source.replace("maps = self.relu", "1 / 0; maps = self.relu"), encoding="utf-8")
    assert explain(here) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "ZeroDivisionError" in said
    assert explain(here, "--traceback") == 2
    assert "Traceback" in capsys.readouterr().err


def test_methods_that_hide_parts_hide_regions_of_a_photo(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(here, "--method", "occlusion", "--method", "feature_ablation", "--save", "--target", "left") == 0
    ablated = captum.Explanation.load(here / "out" / "feature_ablation").attributions
    assert isinstance(ablated, torch.Tensor)
    assert 1 < len(ablated.unique()) < 12 * 16 / 2  # superpixels, not pixels
    occluded = captum.Explanation.load(here / "out" / "occlusion").attributions
    assert isinstance(occluded, torch.Tensor)
    assert float(occluded[..., :6].sum()) > 0
    assert float(occluded[..., 10:].abs().sum()) == 0  # the right half has no part in "left"
