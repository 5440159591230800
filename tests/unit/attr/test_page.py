from __future__ import annotations

import base64
import itertools
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from captum.attr.explaining import explain
from captum.attr.explanation import Explanation, report
from captum.attr.results.markup import Markup, join, tag, text
from captum.errors import InputError

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</style><script>alert(1)</script>",
    "</title><svg onload=alert(1)>",
    "\"><b onmouseover='alert(1)'>x</b>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "<!--",
    "]]>",
    "&lt;script&gt;",
    "a\u202eevil\u2066b",
    "\x00\x1b[31m\u2028\ufeff",
    "\ud800",
]
VOID = {"img", "meta", "br", "col", "hr", "link"}
KNOWN = {
    "a",
    "bdi",
    "body",
    "caption",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "footer",
    "h1",
    "h2",
    "head",
    "html",
    "img",
    "li",
    "main",
    "meta",
    "nav",
    "p",
    "section",
    "style",
    "summary",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "title",
    "tr",
    "ul",
}


class Reader(HTMLParser):
    """Read a page strictly: every element is closed by its own end tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.seen if found == name]


def table(rows: int = 1, **more: object) -> Explanation:
    x = torch.arange(1, rows * 2 + 1, dtype=torch.float32).reshape(rows, 2)
    return Explanation(
        **{
            "attributions": x * torch.tensor([1.0, -2.0]),
            "inputs": x,
            "method": "integrated_gradients",
            "targets": (1,) * rows,
            "scores": torch.ones(rows),
            "outputs": torch.tensor([[0.5, 1.0, 0.2]] * rows),
            "residual": torch.zeros(rows),
            "class_names": ("cat", "dog", "cow"),
            "feature_names": {"": ("age", "debt")},
            "seconds": 0.5,
            "version": "9.9",
            **more,
        }
    )


NAMED = [
    ({}, "Integrated Gradients"),
    ({"arguments": {"noise_tunnel": {"nt_type": "smoothgrad_sq"}}}, "Integrated Gradients + SmoothGrad-Squared"),
    ({"method": "layer_grad_cam", "arguments": {"variant": "grad_cam++"}}, "Grad-CAM++ (layer)"),
    ({"method": "layer_grad_cam", "arguments": {"variant": "grad_cam"}}, "Grad-CAM (layer)"),
    ({"method": "MyOwn_method", "arguments": {"variant": "hires_cam"}}, "MyOwn method"),
]


@pytest.mark.parametrize(("more", "title"), NAMED)
def test_headings_are_spelled_as_in_the_literature(more: dict[str, object], title: str) -> None:
    explanation = table(**more)
    assert f">{title}</h2>" in report([explanation])
    figure = explanation.plot()
    assert title in " ".join(text.get_text() for text in [*figure.texts, figure._suptitle] if text is not None)


def tokens(words: tuple[str, ...], **more: object) -> Explanation:
    ids = torch.arange(len(words))[None]
    values = torch.linspace(-1.0, 1.0, len(words))[None]
    return Explanation(values, ids, "saliency", targets=(0,), scores=torch.ones(1), tokens=(words,), **more)


def image(rows: int = 1, **more: object) -> Explanation:
    x = torch.rand(rows, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    return Explanation(x - 0.5, x, "saliency", targets=(0,) * rows, scores=torch.ones(rows), **more)


def hostile(attack: str) -> list[Explanation]:
    names = {"": (attack, "debt")}
    return [
        table(
            method=attack,
            class_names=("a", attack, "c"),
            feature_names=names,
            layer=attack,
            version=attack,
            notes=(attack,),
            arguments={attack: attack, "noise_tunnel": {"nt_type": attack}},
        ),
        tokens((attack, "fine", attack), class_names=(attack,)),
        Explanation({attack: torch.ones(1, 2), "b": torch.ones(1, 2)}, {attack: torch.ones(1, 2)}, "saliency"),
        table(targets=(attack,)),
    ]


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_of_a_user_becomes_markup(attack: str) -> None:
    page = report(hostile(attack), title=attack)
    page.encode("utf-8")
    reader = Reader(page)
    assert {name for name, _ in reader.seen} <= KNOWN
    for _, attributes in reader.seen:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "src"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert len(reader.all("style")) == 1
    assert not any(letter in page for letter in "\u202e\u2066\x00\x1b\u2028\ufeff")


@pytest.mark.parametrize("attack", ATTACKS)
def test_notebook_cells_escape_too(attack: str) -> None:
    for explanation in hostile(attack):
        reader = Reader(explanation._repr_html_())
        assert not reader.all("script")
        assert not any(name.startswith("on") for _, attributes in reader.seen for name in attributes)


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    page = image().to_html(tmp_path / "deep" / "page.html")
    assert (tmp_path / "deep" / "page.html").read_text(encoding="utf-8") == page
    for word in ("http://", "https://", "url(", "@import", "<script", "<link"):
        assert word not in page
    reader = Reader(page)
    assert [m.get("http-equiv") for m in reader.all("meta")].count("Content-Security-Policy") == 1
    assert "prefers-color-scheme:dark" in page


def test_page_says_what_was_explained() -> None:
    words = " ".join(Reader(table(arguments={"n_steps": 50}).to_html()).words)
    for word in ("Integrated Gradients", "dog", "residual", "n_steps", "50", "age", "debt", "captum 9.9", "0.5"):
        assert word in words


def test_what_relevance_misses_is_what_biases_kept() -> None:
    """F(x) = 2·3 + 4·1 + 5 = 15: the parts of the sum are relevance, the bias keeps its 5."""
    model = torch.nn.Linear(2, 1).eval()
    model.load_state_dict({"weight": torch.tensor([[2.0, 4.0]]), "bias": torch.tensor([5.0])})
    found = explain(model, torch.tensor([[3.0, 1.0]]), "lrp")
    assert "  kept by biases and ε +5 (33 % of the score)" in repr(found).splitlines()
    words = " ".join(Reader(found.to_html()).words)
    assert "Kept by biases and ε +5 (33 % of the score)" in words
    assert "residual" not in words
    both = explain(model, torch.tensor([[3.0, 1.0], [-6.0, 1.0]]), "lrp")  # the second score is −3
    model.load_state_dict({"weight": torch.tensor([[2.0, 4.0]]), "bias": torch.tensor([-5.0])})
    assert "kept by biases and ε +5 in row 0 (33 % of the score)" in repr(both)
    assert "−5 (100 % of the score)" in repr(explain(model, torch.tensor([[-2.0, 1.0]]), "lrp"))


def test_headings_and_labels_are_in_order() -> None:
    reader = Reader(report([table(), tokens(("a", "b")), image()]))
    levels = [int(name[1]) for name, _ in reader.seen if name in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in reader.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in reader.seen:
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids
    assert all(len(picture["alt"] or "") > 20 for picture in reader.all("img"))
    assert all("scope" in cell for cell in reader.all("th"))


def test_pictures_are_whole_pngs() -> None:
    pictures = Reader(image(2).to_html()).all("img")
    assert len(pictures) == 2
    for picture in pictures:
        data = base64.b64decode((picture["src"] or "").partition("base64,")[2], validate=True)
        assert data.startswith(b"\x89PNG")
        assert data.endswith(b"IEND\xaeB`\x82")


def test_predictions_are_shown_once_for_the_same_model() -> None:
    page = report([table(), table(method="saliency")])
    assert page.count("What the model predicts") == 1
    assert page.count("Highest scores") == 1
    other = table(outputs=torch.tensor([[9.0, 1.0, 0.2]]))
    assert report([table(), other]).count("Highest scores") == 2


def test_long_batches_are_cut_and_say_so() -> None:
    page = image(10).to_html()
    assert len(Reader(page).all("img")) == 8
    assert "8 of 10 rows are shown" in page


def test_tokens_are_text_not_pictures() -> None:
    reader = Reader(tokens(("good", "bad", "zero")).to_html())
    assert not reader.all("img")
    marks = [m for m in reader.all("bdi") if "title" in m]
    assert [m["title"] for m in marks] == ["−1", "0", "+1"]
    assert "style" not in marks[1]
    assert marks[0]["style"] != marks[2]["style"]


def test_inputs_without_attribution_need_no_picture() -> None:
    ids, mask = torch.tensor([[1, 2]]), torch.ones(1, 2, dtype=torch.long)
    tree = {"ids": torch.tensor([[0.5, -0.5]]), "mask": torch.zeros(1, 2)}
    reader = Reader(Explanation(tree, {"ids": ids, "mask": mask}, "saliency", tokens=(("a", "b"),)).to_html())
    assert not reader.all("img")
    assert len(reader.all("figure")) == 1
    both = Explanation({**tree, "mask": torch.ones(1, 2)}, {"ids": ids, "mask": mask}, "saliency", tokens=(("a", "b"),))
    assert len(Reader(both.to_html()).all("figure")) == 3


def test_cells_of_one_notebook_share_no_ids() -> None:
    e = table()
    first, second = Reader(e._repr_html_()), Reader(e._repr_html_())
    ids = [{a["id"] for _, a in reader.seen if "id" in a} for reader in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_nothing_to_report_is_an_error() -> None:
    with pytest.raises(InputError, match="at least one"):
        report([])


def test_nan_and_zero_attributions_are_shown() -> None:
    zeros = torch.zeros(1, 2)
    for values in (zeros, zeros + float("nan"), zeros + float("inf")):
        Reader(table(attributions=values).to_html())
        Reader(Explanation(values, torch.ones(1, 2, dtype=torch.long), "saliency", tokens=(("a", "b"),)).to_html())
    Reader(Explanation(torch.zeros(1, 3, 6, 8), torch.zeros(1, 3, 6, 8), "saliency").to_html())


def test_markup_escapes_everything_but_markup() -> None:
    assert tag("p", "<b>", Markup("<i></i>"), class_="a\"'&") == '<p class="a&quot;&#x27;&amp;">&lt;b&gt;<i></i></p>'
    assert tag("img", alt="<", data_x=None) == '<img alt="&lt;">'
    assert text(3) == "3"
    assert join(["<", Markup("<br>")]) == "&lt;<br>"
    assert isinstance(tag("p"), Markup)
