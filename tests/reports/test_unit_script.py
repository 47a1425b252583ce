"""The table of units and the layout of the page, as a real browser runs and draws them."""

from __future__ import annotations

import html as escape
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from auditkit.record import Record, Speedup
from auditkit.reports import html
from auditkit.writing import write_outputs

from .sample import crowded, hostile, minimal
from .test_html import CHROMIUM, Page, browse
from .test_unit_rows import frame, small

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
# What a person does, step by step; each step tells what then stands on the page.
DRIVER = """<script>addEventListener("load", () => {
  const find = (name) => document.getElementById("units-" + name), form = find("sift"), table = find("table");
  const texts = (row) => [...row.cells].map((cell) => cell.textContent);
  const told = {}, tell = (name) => {
    const sorted = [...table.tHead.rows[0].cells].filter((head) => head.ariaSort);
    told[name] = {
      rows: [...table.tBodies[0].rows].map(texts), status: find("status").textContent, more: !find("more").hidden,
      sorted: sorted.map((head) => [head.dataset.key, head.ariaSort]), focus: document.activeElement.id,
    };
  };
  const set = (name, value) => {
    if (name === "told") form.elements.told.checked = value; else form.elements[name].value = value;
    form.dispatchEvent(new Event("input", {bubbles: true}));
  };
  const head = (key) => table.querySelector(`th[data-key=${key}] button`);
  tell("start");
  set("text", " "); tell("same");
  find("more").click(); tell("more");
  find("more").focus(); find("more").click(); tell("all");
  head("deviation").click(); tell("down");
  head("deviation").click(); tell("up");
  head("q").click(); tell("q");
  head("user").click(); tell("user");
  set("method", "1"); set("side", "below"); tell("below");
  set("told", true); tell("told");
  set("text", "nothing"); tell("none");
  set("told", false); set("side", ""); set("method", ""); set("text", "15"); tell("number");
  form.reset();
  setTimeout(() => {
    tell("reset");
    const out = document.createElement("pre");
    out.id = "told"; out.textContent = JSON.stringify(told);
    document.body.append(out);
  }, 10);
});</script>"""


def broad() -> Record:
    """A report with as many metrics as an audit measures, and a method so fast that its speedup needs room."""
    names = [f"{name}@{k}" for k in (10, 20) for name in ("recall", "ndcg", "precision", "hit_rate", "mrr")]
    plain = small()
    fast = Speedup(value=79_075, low=58_665, high=106_585)
    systems = [
        system.model_copy(update={
            "utility": dict.fromkeys([*names, "forget_recall@20"], system.utility["recall@20"]), "speedup_vs_gold": fast
        })
        for system in plain.systems
    ]  # fmt: skip
    return plain.model_copy(update={"systems": systems})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 250 lines, two methods, some of them unread."""
    folder = tmp_path_factory.mktemp("page")
    table = frame(125)
    table.loc[3, "q:finetune"] = float("nan")
    html.write(write_outputs(broad(), table, folder), folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def driven(page: Path) -> dict[str, Any]:
    copy = page.with_name("driven.html")
    source = POLICY.sub("", page.read_text(encoding="utf-8")).replace("</body>", f"{DRIVER}</body>")
    copy.write_text(source, encoding="utf-8")
    dumped = browse(copy, "virtual-time-budget=2000", "dump-dom")
    found: dict[str, Any] = json.loads(escape.unescape(re.findall(r'<pre id="told">(.*?)</pre>', dumped, re.DOTALL)[0]))
    return found


def column(step: dict[str, Any], place: int) -> list[str]:
    return [row[place] for row in step["rows"]]


USER, METHOD, DEVIATION, Q, SIDE = 1, 7, 8, 10, 11


def test_script_writes_the_same_lines_that_stand_there_without_it(driven: dict[str, Any]) -> None:
    assert driven["start"]["status"].startswith("Showing 100 of 250 lines.")
    assert driven["start"]["more"]
    assert driven["same"]["rows"] == driven["start"]["rows"]
    assert len(driven["same"]["rows"]) == 100
    assert driven["same"]["status"] == "Showing 100 of 250 matching lines."


def test_more_shows_the_rest_and_leaves_the_focus_on_the_table(driven: dict[str, Any]) -> None:
    assert [len(driven[step]["rows"]) for step in ("same", "more", "all")] == [100, 200, 250]
    assert driven["all"]["rows"][:100] == driven["start"]["rows"]
    assert not driven["all"]["more"]
    assert driven["all"]["focus"] == "units-region"


def test_headings_sort_and_say_so(driven: dict[str, Any]) -> None:
    assert driven["same"]["sorted"] == []
    for step, order in (("down", "descending"), ("up", "ascending")):
        assert driven[step]["sorted"] == [["deviation", order]]
        values = [float(cell) for cell in column(driven[step], DEVIATION)]
        assert values == sorted(values, reverse=step == "down")
    assert driven["q"]["sorted"] == [["q", "ascending"]]
    shown = [float(cell.removeprefix("< ")) for cell in column(driven["q"], Q)]
    assert shown == sorted(shown)
    users = [int(cell) for cell in column(driven["user"], USER)]
    assert users == sorted(users)
    assert driven["user"]["sorted"] == [["user", "ascending"]]


def test_filters_hold_together_and_the_count_is_said(driven: dict[str, Any]) -> None:
    table = frame(125)
    below = table[table["deviation:finetune"] < 0]
    assert set(column(driven["below"], METHOD)) == {"finetune"}
    assert set(column(driven["below"], SIDE)) == {"below"}
    assert driven["below"]["status"] == f"Showing {len(below)} of {len(below)} matching lines."
    few = int((below["q:finetune"].drop(index=3, errors="ignore") <= 0.05).sum())
    assert 0 < few < len(below)
    assert len(driven["told"]["rows"]) == few
    assert driven["none"]["status"] == "No line matches."
    assert not driven["none"]["more"]


def test_a_number_is_sought_as_a_whole(driven: dict[str, Any]) -> None:
    table = frame(125)
    wanted = {str(unit) for unit in table.loc[(table["unit"] == 15) | (table["user"] == 15), "unit"]}
    assert set(column(driven["number"], 0)) == wanted


def test_reset_brings_the_first_lines_back(driven: dict[str, Any]) -> None:
    assert driven["reset"] == {**driven["same"], "focus": driven["reset"]["focus"]}


def test_own_script_runs_under_the_policy_and_is_usable_by_keyboard(page: Path) -> None:
    dumped = browse(page, "dump-dom")
    found = Page(dumped)
    assert len([button for button in found.all("button") if button.get("type") == "button"]) == 12 + 1
    form = next(a for a in found.all("form"))
    assert "hidden" not in form
    assert [a for _, a in found.seen if a.get("role") == "status"]
    assert next(a for _, a in found.seen if a.get("id") == "units-region")["tabindex"] == "0"


def test_without_scripts_the_foremost_lines_stand_there_without_dead_controls(page: Path) -> None:
    still = page.with_name("still.html")
    forbidden, n = re.subn("script-src &#39;[^&]*&#39;", "script-src 'none'", page.read_text(encoding="utf-8"))
    assert n == 1
    still.write_text(forbidden, encoding="utf-8")
    found = Page(browse(still, "dump-dom"))
    assert "hidden" in next(a for a in found.all("form"))
    assert [b.get("type") for b in found.all("button") if "hidden" not in b] == ["reset"]
    assert "Showing 100 of 250 lines." in found.words


def test_nothing_hostile_runs_or_becomes_an_element(tmp_path: Path) -> None:
    whole = hostile().model_copy(update={"curves": minimal().curves, "ladder": []})
    names = tuple(system.name for system in whole.systems if system.role == "unlearned")
    table = frame(40, names)
    table["user"] = '<img src=x onerror="document.title=1"></script><script>document.title=2</script>'
    html.write(write_outputs(whole, table, tmp_path), tmp_path / "report.html")
    copy = tmp_path / "driven.html"
    click = "<script>document.querySelector('#units-table th button').click()</script></body>"
    source = POLICY.sub("", (tmp_path / "report.html").read_text(encoding="utf-8"))
    copy.write_text(source.replace("</body>", click), encoding="utf-8")
    dumped = browse(copy, "dump-dom")
    assert "Showing 100 of 200 matching lines." in dumped
    assert "<img" not in dumped
    assert dumped.count("<script") == 3
    assert "<title>FAIL: forgetting audit of" in dumped


# Layout


WIDTHS = (400, 800, 1199, 1200)
# A4 less the page's margins, at 96 pixels an inch.
PRINTED = 688
MEASURE = """<script>addEventListener("load", () => {
  const told = [...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument, whole = page.documentElement, card = page.querySelector(".scroll:has(.card)");
    return [whole.scrollWidth - whole.clientWidth, card.scrollWidth - card.clientWidth];
  });
  const out = document.createElement("pre");
  out.id = "told"; out.textContent = JSON.stringify(told);
  document.body.replaceChildren(out);
});</script>"""


def test_no_width_scrolls_the_page_or_the_score_card_sideways(page: Path, tmp_path: Path) -> None:
    screen = POLICY.sub("", page.read_text(encoding="utf-8"))
    paper = screen.replace("@media print", "@media all").replace("@media screen and", "@media print and")
    frames = [(width, screen) for width in WIDTHS] + [(PRINTED, paper)]
    drawn = "".join(
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{escape.escape(source)}"></iframe>'
        for width, source in frames
    )
    (tmp_path / "frames.html").write_text(f"<!doctype html><body>{drawn}{MEASURE}</body>", encoding="utf-8")
    dumped = browse(tmp_path / "frames.html", "window-size=1400,5000", "dump-dom")
    assert json.loads(re.findall(r'<pre id="told">(.*?)</pre>', dumped)[0]) == [[0, 0]] * len(frames)


def drawing(pdf: Path) -> tuple[int, list[bytes]]:
    """The number of pages of a PDF, and what is drawn on them."""
    raw = pdf.read_bytes()
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", raw, re.DOTALL)
    return len(re.findall(rb"/Type\s*/Page\b", raw)), [zlib.decompress(s) for s in streams if s[:1] == b"x"]


def test_print_is_light_whatever_the_screen_and_few_pages(tmp_path: Path) -> None:
    final = write_outputs(crowded(6), frame(300, tuple(f"method-{k:02d}-with-a-long-name" for k in range(6))), tmp_path)
    html.write(final, tmp_path / "report.html")
    made = []
    for scheme in (0, 1):
        pdf = tmp_path / f"{scheme}.pdf"
        colours = f"blink-settings=preferredColorScheme={scheme}"
        browse(tmp_path / "report.html", colours, "no-pdf-header-footer", f"print-to-pdf={pdf}")
        made.append(drawing(pdf))
    assert made[0] == made[1]
    assert 5 <= made[0][0] <= 15
