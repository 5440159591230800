"""A strict reading of HTML, and texts that try to break out of it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"br", "hr", "img", "input", "meta", "link", "col"}

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "' onmouseover='alert(1)",
    '" style="background:url(javascript:alert(1))',
    "</td></tr></table><iframe src=//evil>",
    "</mark><b>",
    "<!-- ",
    "-->",
    "<![CDATA[",
    "]]>",
    "&lt;script&gt;",
    "&#x3C;script&#x3E;",
    "<b>bold</b>",
    "a\u202eb\u2066c",
    "\x00\x1b[31m\x08",
    "${7*7}{{7*7}}",
    "<",
    ">",
    "&",
    '"',
    "'",
    "`",
    "",
]


class Reader(HTMLParser):
    """Collects elements and text; refuses anything that is not closed in order."""

    def __init__(self, allowed: set[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.allowed, self.open, self.text, self.elements = allowed, [], [], []

    def handle_starttag(self, tag, attrs):
        assert tag in self.allowed, f"unexpected element {tag}"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute twice: {names}"
        assert not [name for name in names if name.startswith("on")], names
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        raise AssertionError(f"self-closing {tag}")

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError("comment")

    def handle_decl(self, decl):
        raise AssertionError("declaration")

    def unknown_decl(self, data):
        raise AssertionError("declaration")

    def handle_pi(self, data):
        raise AssertionError("processing instruction")


def read(markup: str, allowed: set[str]) -> Reader:
    reader = Reader(allowed)
    reader.feed(markup)
    reader.close()
    assert reader.open == [], f"never closed: {reader.open}"
    return reader
