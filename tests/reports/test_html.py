from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.errors import StoreError
from auditkit.record import Estimate, Record, Role, SystemEntry
from auditkit.reports import html, numbers, words

from .beneath import SETTLE
from .sample import METHODS, controls, crowded, hostile, invalid, minimal, record

BLOCKS = {"td", "th", "dt", "dd", "li", "tr", "div", "p"}
VOID = {"meta", "link", "br", "wbr", "img", "input", "hr"}
MAKERS: list[Callable[[], Record]] = [record, invalid, crowded, hostile, minimal]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page(HTMLParser):
    """Checks that elements nest, and collects text, ids, attributes and headings."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> repeats an attribute"
        self.seen.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        if tag in BLOCKS:
            self.text.append(" ")

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.seen if name == tag]

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module", params=MAKERS, ids=lambda make: make.__name__)
def source(request: pytest.FixtureRequest) -> str:
    return html.render(request.param())


@pytest.fixture(scope="module")
def usual() -> str:
    return html.render(record())


@pytest.fixture(scope="module")
def wrong() -> str:
    return html.render(invalid())


def test_page_nests_and_names_every_id_once(source: str) -> None:
    page = Page(source)
    ids = [attributes["id"] for _, attributes in page.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for _, a in page.seen if a.get("href", "").startswith("#")}
    labels = {name for _, a in page.seen for name in a.get("aria-labelledby", "").split()}
    assert targets | labels <= set(ids)


def test_page_loads_nothing(source: str) -> None:
    page = Page(source)
    for tag, attributes in page.seen:
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert attributes.get(name, "#").startswith("#") or attributes[name] == "data:,", (
                tag,
                attributes,
            )
        assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", " ".join(attributes.values())))
    style = source[source.index("<style>") : source.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    assert "http:" not in style
    assert "https:" not in style
    assert not page.all("script")
    assert [m["content"] for m in page.all("meta") if m.get("http-equiv")] == [
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    ]


def test_page_is_usable_without_eyes(source: str) -> None:
    page = Page(source)
    tags = [tag for tag, _ in page.seen]
    assert tags.count("main") == tags.count("h1") == 1
    assert {"header", "nav", "footer"} <= set(tags)
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in attributes for attributes in page.all("th"))
    drawn = [a for a in page.all("svg") if a.get("role") == "img"]
    assert all(a["aria-labelledby"] for a in drawn)
    assert all(a.get("role") == "img" or a["aria-hidden"] == "true" for a in page.all("svg"))
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_same_record_gives_same_bytes(usual: str) -> None:
    assert html.render(record()) == usual


def test_hostile_names_stay_text() -> None:
    source = html.render(hostile())
    page = Page(source)
    assert not page.all("script")
    assert not page.all("img")
    assert not any(name.startswith("on") for _, attributes in page.seen for name in attributes)
    for text in ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }}", "$x_{1"):
        assert text in page.words
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", source)


@settings(max_examples=10, deadline=None)
@given(name=st.text(min_size=1, max_size=40))
def test_no_name_breaks_the_page(name: str) -> None:
    bare = minimal()
    named = bare.systems[0].model_copy(update={"name": name, "method": name, "reasons": [name]})
    dataset = bare.dataset.model_copy(update={"name": name})
    page = Page(html.render(bare.model_copy(update={"systems": [named], "dataset": dataset, "limits": [name]})))
    assert " ".join(words.printable(name).split()) in page.words


def test_verdict_comes_first_with_its_reasons_and_limits(usual: str) -> None:
    headings = re.findall(r"<h[12][^>]*>(.*?)</h[12]>", usual, re.DOTALL)
    assert '<span class="word">FAIL</span>' in headings[0]
    assert headings[1:] == [
        *("Score card", "Figures", "Findings", "Beneath the average", "Controls of the audit itself"),
        *("Utility and cost", "Setting", "What was not shown", "The words used here"),
    ]
    shown = Page(usual).words
    order = ["FAIL Not forgotten", "Asked", "Found", "Reasons", "Yardstick", "Not meant"]
    places = [shown.index(text) for text in order]
    assert places == sorted(places)
    assert "Forget 4,000 interactions of ml-100k, 5% of its 80,000 interactions." in shown
    assert "finetune: behaves as if it still held 64.2% [59.2%, 69.2%] of the forget set" in shown
    assert "4 systems audited: 1 PASS, 2 FAIL, 1 INCONCLUSIVE." in shown


def test_score_card_lists_audited_systems_before_the_others(usual: str) -> None:
    names = re.findall(r'<span class="name">(.*?)</span>', usual)
    assert names == [*(method[0] for method in METHODS), "original", "Gold"]


def test_numbers_carry_intervals_and_what_is_missing_says_why(usual: str) -> None:
    shown = Page(usual).words
    assert "0.642 [0.592, 0.692]" in shown
    assert "0.2267 [0.2207, 0.2327] Δ -0.0046 [-0.0086, -0.0006]" in shown
    assert "not measured it shared the machine with another job" in shown
    assert "needs 16 references of this procedure, 0 were made" in shown
    assert not re.search(r"\b(nan|None)\b", shown)


def test_ends_of_the_scale_are_definitions_where_no_reading_is_stated() -> None:
    roles: tuple[Role, ...] = ("gold", "original")
    bare = [SystemEntry(name=r, role=r, method=r, seeds=[], procedure="") for r in roles]
    shown = Page(html.render(minimal().model_copy(update={"systems": bare}))).words
    golds, originals = shown.split("Gold, retrained without the data")[1], shown.split("before deletion")[1]
    assert "not judged 1 by definition 0 by definition 0 by definition 0 by definition" in golds
    assert "not judged 0 by definition 1 by definition 1 by definition 1 by definition" in originals
    assert "No unlearned system was audited." in shown


def test_many_reasons_are_folded_but_all_there() -> None:
    reasons = [f"reason number {k}" for k in range(40)]
    page = Page(html.render(minimal().model_copy(update={"reasons": reasons})))
    assert "34 further reasons" in page.words
    assert all(reason in page.words for reason in reasons)


def test_units_groups_and_retained_data_are_shown(usual: str) -> None:
    shown = Page(usual).words
    assert "finetune 2,368 of 4,000 (2,368 above Gold) 789 3e-05 popularity 190 to 583 400" in shown
    assert "sisa 0 of 4,000 0 3e-05 popularity 190 to 583 400" in shown
    assert "finetune 1.600 [1.500, 1.700] 0.080 [0.060, 0.100] 0.112 [0.082, 0.142] popularity 1 to 3, 410" in shown
    assert "row-reinit not measured the system answers nothing there not measured not measured" in shown
    assert "the original does not stand out from the Golds in this group" in shown


def test_power_is_said_and_what_would_settle_only_where_something_must() -> None:
    plain = Page(html.render(record())).words
    assert "would be found with probability 1.00 (the policy asks for 0.80)." in plain
    assert "To settle" not in plain
    weak = record().policy.model_copy(update={"power": 0.41})
    shown = Page(html.render(record(policy=weak, settle=SETTLE, attainable_margin=0.137))).words
    assert "with probability 0.41 (the policy asks for 0.80); that is too little for anything to pass." in shown
    assert "To settle 16 Golds (now 8), or 3 runs of the method (now 1), or 9,000 units in the request" in shown
    assert "references 32 not alone" in shown
    assert "Attainable with any number of Golds 0.081" in shown


def test_every_control_says_what_its_failing_means(usual: str) -> None:
    shown = Page(usual).words
    for control in controls():
        assert control.ok
        assert f"{control.observed} ✔ yes {control.consequence}" in shown


def test_failed_control_is_shown(wrong: str, usual: str) -> None:
    shown = Page(wrong).words
    assert "INVALID This audit cannot be relied on" in shown
    assert "FAIL: level 0.31 ✘ no the audit is INVALID" in shown
    assert "✘ no" not in Page(usual).words


def test_long_digests_are_short_and_whole_in_their_title(usual: str) -> None:
    digest = record().dataset.digest
    assert f'<code title="{digest}">{digest[:12]}…</code>' in usual
    assert f">{digest}<" not in usual


def test_minimal_record_says_what_is_absent() -> None:
    page = Page(html.render(minimal()))
    assert not page.all("figure")
    absent = [
        "No attack was run",
        "No control was run",
        "No unit was tested by itself",
        "Retained units were not",
        "Utility was not measured",
    ]
    absent += ["the residual dose was not measured", "lists no limits", "No system of known dose was read"]
    for text in absent:
        assert text in page.words


def test_all_verdicts_differ_by_shape_and_word_not_by_colour_alone() -> None:
    pages = [html.render(minimal().model_copy(update={"verdict": verdict})) for verdict in words.VERDICTS]
    icons = [re.findall(r'<svg class="icon".*?</svg>', page, re.DOTALL)[0] for page in pages]
    assert len(set(icons)) == len(words.VERDICTS)
    assert all(f'<span class="word">{v}</span>' in page for v, page in zip(words.VERDICTS, pages, strict=True))


def test_write_replaces_the_file_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    html.write(minimal(), path)
    assert path.read_text(encoding="utf-8") == html.render(minimal())
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_write_keeps_the_old_file_where_the_new_one_cannot_be_put(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StoreError, match=r"report\.html"):
        html.write(minimal(), tmp_path / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_nested_options_are_flattened() -> None:
    assert list(html.leaves({"a": {"b": 1, "c": None}, "d": {}})) == [
        ("a.b", "1"),
        ("a.c", "none"),
        ("d", "{}"),
    ]


@pytest.mark.parametrize(
    ("estimate", "written"),
    [
        (Estimate(value=0.03, low=-0.01, high=0.07), "0.030 [-0.010, 0.070]"),
        (Estimate(value=-0.0001), "0.000"),
        (Estimate(value=0.5, low=0.2), "0.500 [0.200, inf]"),
        (Estimate(note="why"), "not measured"),
    ],
)
def test_estimates_are_written_with_their_interval(estimate: Estimate, written: str) -> None:
    assert numbers.interval(estimate) == written


@pytest.mark.parametrize(
    ("estimate", "said"),
    [
        (
            Estimate(value=0.62, low=0.55, high=0.69),
            "as if it still held 62.0% [55.0%, 69.0%] of the forget set",
        ),
        (
            Estimate(value=-0.0003, low=-0.07, high=0.07),
            "no more of the forget set than Gold: 0.0% [-7.0%, 7.0%]",
        ),
        (Estimate(value=-0.3, low=-0.4, high=-0.2), "over-forgetting: -30.0% [-40.0%, -20.0%]"),
        (Estimate(value=-0.3), "no more of the forget set than Gold: -30.0%"),
        (Estimate(note="masked"), "the residual dose was not measured: masked"),
    ],
)
def test_doses_in_words(estimate: Estimate, said: str) -> None:
    assert words.dose(estimate).endswith(said)


def test_other_numbers() -> None:
    assert numbers.p_value(0.0002) == "< 0.001"
    assert numbers.signed(0.004) == "+0.004"
    times = [numbers.seconds(s) for s in (1e-5, 0.0123, 0.4213, 185, 7800)]
    assert times == ["< 1 ms", "12.3 ms", "0.421 s", "3 min 5 s", "2 h 10 min"]
    assert numbers.ratio(Estimate(value=46044.7, low=44408.8, high=47740.8)) == "46,045 [44,409, 47,741]"
    assert numbers.ratio(Estimate(value=0.5)) == "0.50"
    assert numbers.ratio(Estimate(value=0.0042, low=0.0007, high=0.01)) == "0.0042 [0.0007, 0.0100]"
    assert numbers.ratio(Estimate(value=0.0)) == "0.00"
    assert [numbers.size(b) for b in (0, 1023, 1_482_184_000)] == ["0 bytes", "1,023 bytes", "1.4 GiB"]
    assert [numbers.counted(n, "pair") for n in (1, 4000)] == ["1 pair", "4,000 pairs"]


def browse(page: Path, *switches: str) -> str:
    """What headless Chromium prints of a page, with a profile of its own beside it."""
    usual = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync hide-scrollbars"
    )
    command = [
        *(str(CHROMIUM), *(f"--{switch}" for switch in (*usual.split(), *switches))),
        *(f"--user-data-dir={page.parent / 'profile'}", page.as_uri()),
    ]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    return done.stdout.decode("utf-8", "replace")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_browser_draws_the_page(tmp_path: Path, scheme: int) -> None:
    html.write(record(METHODS[:2], controls=controls()), tmp_path / "report.html")
    picture = tmp_path / "page.png"
    colours = f"blink-settings=preferredColorScheme={scheme}"
    browse(tmp_path / "report.html", "window-size=900,2400", colours, f"screenshot={picture}")
    pixels = np.asarray(matplotlib.image.imread(picture))[..., :3]
    assert pixels.shape[:2] == (2400, 900)
    # Every fifth of the page has ink on it, on the paper that the scheme asks for.
    assert all(band.std() > 0.02 for band in np.array_split(pixels, 5))
    assert (np.median(pixels) < 0.5) == (scheme == 0)


def test_direction_marks_cannot_turn_a_name_round() -> None:
    assert words.printable("evil\u202efdp\u202c \u2066x\u2069 \u200f") == "evil?fdp? ?x? ?"
    assert words.printable("naïve Müller 東京") == "naïve Müller 東京"
