"""What notebooks show: well-formed, escaped, without scripts, readable on light and dark pages."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.fabricate import execute, filled_store, new_store

import attattr_batch
from attattr_batch.analysis.trees import Tree, TreeEdge
from attattr_batch.api import Attribution
from attattr_batch.runtime.run import RunSummary

ATTACK = '<script>alert("1")</script>'
ESCAPED = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;"


class Parsed(HTMLParser):
    """Elements, attributes and text of a page; every element must be closed in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.styles: list[str] = []
        self.cells: list[str] = []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append(tag)
        assert {name for name, _ in attributes} <= {"style", "title", "align"}
        self.styles += [value or "" for name, value in attributes if name == "style"]
        self.cells += [""] if tag in ("td", "th") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def parsed(markup: str) -> Parsed:
    """Reads what a notebook would show; nothing in it may run, be fetched, or fix the colour of text."""
    page = Parsed(markup)
    assert set(page.tags) <= {
        *("div", "p", "span", "b", "small", "ul", "li", "pre"),
        *("table", "tr", "th", "td"),
    }
    for style in page.styles:
        assert "url" not in style
        assert not re.search(r"(^|;)\s*color:", style)
        colour = re.search(r"background:(\S+?)(;|$)", style)
        assert colour is None or re.fullmatch(r"#[0-9A-Fa-f]{8}", colour[1]), "translucent"
    return page


def attribution(tokens: list[str]) -> Attribution:
    n = len(tokens)
    scores = np.zeros((2, 3, n, n), np.float32)
    scores[1, 2, 1, 2] = 0.5
    scores[0, 0, 1, 2] = 0.25
    scores[0, 1, 2, 1] = -0.6
    return Attribution(
        scores=scores,
        attention=np.full_like(scores, 1 / n),
        tokens=tokens,
        segments=[None, *[0] * (n - 2), None],
        truncated=False,
        label=1,
        label_name=ATTACK,
        probabilities=np.array([0.1, 0.9], np.float32),
        f_full=0.9,
        f_zero=np.zeros(2, np.float32),
        completeness_error=np.zeros(2, np.float32),
        nodes=np.array([5, 5]),
    )


def test_an_attribution() -> None:
    found = attribution(["[CLS]", ATTACK, "good", "[SEP]"])
    markup = found._repr_html_()
    page = parsed(markup)
    assert ATTACK not in markup
    # Label, token line, row and column of the map, query and key of the strongest edges.
    assert markup.count(ESCAPED) == 1 + 1 + 2 + 2
    shades = dict(re.findall(r'<td title="([^"]+)" style="background:(#\w+)', markup))
    # Means over two layers: (0.5 + 0.25) / 2 for, -0.6 / 2 against; the larger at full strength.
    assert shades == {"0.375": "#0072B2c8", "-0.3": "#D55E00a0"}
    assert page.cells[-8:] == ["0", "0", "1", "2", ATTACK, "good", "0.25", "0.25"]
    assert page.cells.count("0.5") == 1


def test_a_long_text_shows_its_strongest_tokens() -> None:
    found = attribution([f"w{place}" for place in range(128)])
    markup = found._repr_html_()
    parsed(markup)
    assert "the 24 of 128 tokens" in markup
    assert '<td title="0.375"' in markup
    assert len(markup) < 30_000


def test_no_attribution_at_all() -> None:
    found = attribution(["[CLS]", "a", "b", "[SEP]"])
    markup = dataclasses.replace(found, scores=np.zeros_like(found.scores))._repr_html_()
    page = parsed(markup)
    assert page.cells[1:6] == ["[CLS]", "a", "b", "[SEP]", "[CLS]"]
    assert not re.search(r"nan|inf", markup, re.IGNORECASE), "nothing is divided by the largest, which is 0"


def test_a_tree() -> None:
    edges = (TreeEdge(1, 2, 1, 0.5), TreeEdge(0, 1, 0, 0.25), TreeEdge(None, 0, 2, None))
    tree = Tree("r", 3, "gold", "greedy", 0.4, 2, 2, ("[CLS]", ATTACK, "top"), ATTACK, "b", edges)
    markup = tree._repr_html_()
    page = parsed(markup)
    assert ATTACK not in markup
    assert page.cells[4:] == ["1", "top", ATTACK, "0.5", "0", ATTACK, "[CLS]", "0.25", "", "[CLS]", "top", ""]


def test_a_run() -> None:
    summary = RunSummary(1, ATTACK, 8, 7, 1, 7, 1, 5, 7, 5 / 7, 2, 0, None, 1.25, False)
    markup = summary._repr_html_()
    assert ATTACK not in markup
    parsed(markup)
    assert ": 7 of 8 examples, accuracy 0.7143; 7 now in 1 s (5.6/s)</p><p>1 examples quarantined" in markup


def test_a_store(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    execute(store, f"UPDATE runs SET model = '{ATTACK}'")
    markup = attattr_batch.open(store.path)._repr_html_()
    assert ATTACK not in markup
    cells = parsed(markup).cells
    assert cells[8:15] == ["first", "sst2", "dev", ATTACK, "sealed", "8", "0.75"]
    assert float(cells[15]) == pytest.approx(1e-4)


def test_stores_without_anything(tmp_path: Path) -> None:
    missing = attattr_batch.open(tmp_path / "nothing.duckdb")._repr_html_()
    assert "there is no database yet" in missing
    parsed(missing)
    parsed(attattr_batch.open(new_store(tmp_path).path)._repr_html_())
