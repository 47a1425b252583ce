from __future__ import annotations

import html as entities
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from auditkit.record import Record
from auditkit.reports import markdown, words

from .beneath import SETTLE
from .sample import METHODS, crowded, hostile, invalid, minimal, record

MAKERS: list[Callable[[], Record]] = [record, invalid, crowded, hostile, minimal]
OURS = {"<br>", "<sub>", "</sub>"}
TRICKS = "ab1\u200b <>|`*_~[]()!\\&#@:/.-+=$\"'\n\t\r\x1b\x00"


def tokens(source: str) -> list[Token]:
    """What a browser would be given, inline content included; raw HTML is let through, as GitHub does."""
    flat = []
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(source):
        flat += [token, *(token.children or [])]
    return flat


def shown(source: str) -> str:
    return " ".join("".join(t.content if t.type == "text" else " " for t in tokens(source)).split())


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def source(request: pytest.FixtureRequest) -> str:
    return markdown.render(request.param())


def test_verdict_and_reasons_come_first_then_card_controls_and_folded_limits() -> None:
    text = markdown.render(record())
    parts = (
        "## ✘ FAIL: Not forgotten", "**Asked:** Forget 4,000 interactions", "**Found:** 4 systems audited",
        "**Yardstick:** The margin is 0.10", "**Not meant:**", "**Reasons:**", "### Score card", "### Controls",
        "<details>\n<summary>Protocol</summary>", "Selected on: none; never test",
        "<details>\n<summary>What was not shown</summary>",
    )  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.startswith(markdown.MARK)
    assert "To settle" not in text
    assert "**To settle:** 16 Golds (now 8)" in markdown.render(record(settle=SETTLE))


def test_score_card_row_is_as_agreed() -> None:
    rows = [line for line in markdown.render(record()).splitlines() if line.startswith("| **finetune**")]
    assert rows == [
        "| **finetune**<br>audited | ✘ FAIL | 0.358<br>[0.258, 0.418] | 0.642<br>[0.592, 0.692] "
        "| 0.588<br>[0.528, 0.648] | 0.391<br>[0.361, 0.421] "
        "| 0.2267<br>Δ -0.0046 [-0.0086, -0.0006] | 0.1947<br>Δ -0.0040 [-0.0080, 0.0000] "
        "| not measured: it shared the machine with another job |"
    ]


def test_every_row_has_the_columns_of_its_table(source: str) -> None:
    found = tokens(source)
    opened = [t.type for t in found if t.type in ("thead_open", "tr_open", "th_open", "td_open")]
    wide, cells = 0, 0
    for kind in [*opened, "thead_open"]:
        if kind in ("thead_open", "tr_open") and cells:
            wide = wide or cells
            assert cells == wide
            cells = 0
        wide = 0 if kind == "thead_open" else wide
        cells += kind in ("th_open", "td_open")
    expected = len(re.findall(r"^\| ", source, re.MULTILINE)) - len(re.findall(r"^\| ---", source, re.MULTILINE))
    assert opened.count("tr_open") == expected


def test_nothing_but_our_own_markup_is_html(source: str) -> None:
    for token in tokens(source):
        assert token.type not in ("link_open", "image", "code_inline", "fence", "code_block", "em_open", "s_open")
        if token.type == "html_inline":
            assert token.content in OURS
        if token.type == "html_block":
            lines = token.content.strip().splitlines()
            assert all(
                re.fullmatch(r"<!-- auditkit report -->|</?details>|<summary>.*</summary>|<sub>.*", it) for it in lines
            )
            assert not re.search(r"script|onerror|onclick|onload", token.content)


def test_folds_are_closed(source: str) -> None:
    assert source.count("<details>") == source.count("</details>")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=TRICKS, max_size=60))
def test_any_text_shows_itself_and_does_nothing(raw: str) -> None:
    safe = markdown.text(raw)
    plain = " ".join(words.printable(raw).split())
    for source in (f"- {safe}", f"| {safe} | end |\n| --- | --- |\n| {safe} | end |"):
        found = tokens(source)
        kinds = {t.type for t in found if t.nesting >= 0} - {"text", "inline"}
        assert kinds <= {
            "bullet_list_open", "list_item_open", "paragraph_open", "text_special", "table_open", "thead_open",
            "tbody_open", "tr_open", "th_open", "td_open",
        }  # fmt: skip
        texts = [t for t in found if t.type == "inline"]
        written = "".join(c.content for c in texts[0].children or []) if texts else ""
        assert written.replace("\u200b", "").split() == plain.replace("\u200b", "").split()
    assert not re.search(r"@\w|#\d|://|:[a-z]\w*:", entities.unescape(safe))


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("@octocat #12 GH-3", "@\u200boctocat #\u200b12 GH\u200b-3"),
        ("https://a.b www.a.b :tada:", "https:\u200b//a.b www\u200b.a.b :\u200btada:"),
        ("1. <b>|`", "1&#46; &#60;b&#62;&#124;&#96;"),
        ("- x\n# y", "&#45; x #\u200b y"),
        ("\x1b[31m", "?&#91;31m"),
    ],
)
def test_what_github_acts_upon_is_broken(raw: str, written: str) -> None:
    assert markdown.text(raw) == written


def test_missing_measurements_are_never_nought() -> None:
    text = markdown.render(minimal())
    (row,) = [line for line in text.splitlines() if line.startswith("| **given**")]
    assert row == "| **given**<br>audited | not judged" + " | not measured" * 7 + " |"
    assert "No control was run." in text
    assert text.count("<details>") == 1, "nothing is folded but the protocol"


def test_ends_of_the_scale_are_definitions() -> None:
    bare = [s.model_copy(update={"depth": minimal().systems[0].depth}) for s in record().systems]
    text = markdown.render(record(systems=bare))
    assert "not judged | 1 by definition |" in text
    assert "not judged | 0 by definition |" in text


def test_many_reasons_are_folded_but_all_there() -> None:
    text = markdown.render(minimal().model_copy(update={"reasons": [f"reason number {k}" for k in range(40)]}))
    assert "<summary>34 further reasons</summary>" in text
    assert all(f"- reason number {k}\n" in text for k in range(40))


def long(whole: Record) -> Record:
    """Everything in it is as long, as many and as full of markup as a record may be."""
    evil = "#@`|<" * 2_000
    systems = [
        s.model_copy(update={"name": evil, "speedup_vs_gold": s.speedup_vs_gold.model_copy(update={"note": evil})})
        for s in whole.systems
    ]
    controls = [c.model_copy(update=dict.fromkeys(("name", "expected", "observed", "consequence"), evil))
                for c in whole.controls] * 300  # fmt: skip
    dataset = whole.dataset.model_copy(update={"name": evil})
    return whole.model_copy(update={
        "systems": systems * 40, "controls": controls, "limits": [evil] * 900, "reasons": [evil] * 900,
        "dataset": dataset, "generator": evil, "created": evil, "config_digest": evil, "settle": SETTLE,
    })  # fmt: skip


@pytest.mark.parametrize("whole", [long(record()), crowded(3_000)], ids=["long", "many"])
def test_the_comment_fits_and_what_was_left_out_is_counted(whole: Record) -> None:
    text = markdown.render(whole)
    assert len(text) < markdown.LIMIT
    assert len(text) > markdown.LIMIT // 2
    assert text.startswith(f"{markdown.MARK}\n## ✘ FAIL")
    assert text.count("<details>") == text.count("</details>")
    rows = len([line for line in text.splitlines() if line.startswith("| **") and "auditkit" not in line])
    found = re.search(r"…and ([\d,]+) further systems; report.json holds all.", text)
    assert found
    assert rows + int(found[1].replace(",", "")) == len(whole.systems)


def test_every_system_is_there_where_there_is_room() -> None:
    text = shown(markdown.render(record()))
    assert all(name in text for name, *_ in METHODS)
    assert "further system" not in text
