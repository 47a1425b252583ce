"""The page in a browser: printed as a PDF with its text, and narrow without tables that are cut off."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from auditkit.record import Record
from auditkit.reports import html

from .sample import crowded, hostile, record
from .test_html import CHROMIUM, browse

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
NEEDS_POPPLER = pytest.mark.skipif(
    not (shutil.which("pdftotext") and shutil.which("pdfinfo")), reason="no pdftotext on this machine (poppler-utils)"
)
WORD = re.compile(r'<word xMin="([\d.]+)" yMin="[-\d.]+" xMax="([\d.]+)" yMax="[\d.]+">(.*?)</word>')
PAGE = re.compile(r'<page width="([\d.]+)"')
MARGIN = 14 / 25.4 * 72


def printed(page: Path) -> Path:
    browse(page, "no-pdf-header-footer", f"print-to-pdf={page.with_suffix('.pdf')}")
    return page.with_suffix(".pdf")


def told(tool: str, *arguments: object) -> str:
    command = [tool, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def plain(text: str) -> str:
    """Latin letters alone: where lines break is the printer's, and a machine may have no font for others."""
    return re.sub(r"[^A-Za-z0-9]+", "", text)


@NEEDS_POPPLER
@pytest.mark.parametrize("make", [record, hostile])
def test_the_pdf_has_the_verdict_every_heading_and_the_text_of_every_table(
    tmp_path: Path, make: Callable[[], Record]
) -> None:
    whole = make().model_copy(update={"reasons": [f"reason number {k}" for k in range(20)]})
    html.write(whole, tmp_path / "report.html")
    pdf = printed(tmp_path / "report.html")
    text = plain(told("pdftotext", "-layout", pdf, "-"))
    source = (tmp_path / "report.html").read_text("utf-8")
    headings = re.findall(r"<h[123][^>]*>(.*?)</h[123]>", source, re.DOTALL)
    assert len(headings) > 15
    named = [plain(re.sub(r"<[^>]*>|&#?\w+;", "", heading)) for heading in headings]
    assert [heading for heading in named if heading and heading not in text] == []
    assert plain(f"{whole.verdict} Not forgotten") in text
    # What a screen folds away stands on paper.
    assert [k for k in range(20) if f"reasonnumber{k}" not in text] == []
    assert [limit for limit in whole.limits if plain(limit) not in text] == []
    for control in whole.controls:
        assert plain(control.observed)[:20] in text


@NEEDS_POPPLER
@pytest.mark.parametrize("make", [record, crowded])
def test_nothing_printed_runs_over_the_edge(tmp_path: Path, make: Callable[[], Record]) -> None:
    """A table that is too wide is cut off at the edge of the page, and its last columns are lost."""
    html.write(make(), tmp_path / "report.html")
    boxes = told("pdftotext", "-bbox", printed(tmp_path / "report.html"), "-")
    widths = {float(width) for width in PAGE.findall(boxes)}
    found = [(float(low), float(high), word) for low, high, word in WORD.findall(boxes)]
    assert len(widths) == 1
    assert len(found) > 1000
    (width,) = widths
    assert [f for f in found if f[0] < MARGIN - 1 or f[1] > width - MARGIN + 1] == []
    # The header of the score card is there to its last column.
    assert {"Speedup", "Coverage"} <= {word for *_, word in found}


MEASURE = """<script>document.title = [...document.querySelectorAll(".scroll")]
.filter(region => region.scrollWidth > region.clientWidth + 1)
.map(region => region.getAttribute("aria-label") || region.id)
.concat(document.documentElement.scrollWidth > innerWidth ? ["the page"] : []).join("|")</script></body>"""


@pytest.mark.parametrize(
    ("make", "width"), [(record, 600), (record, 800), (record, 1180), (record, 1300), (hostile, 800)]
)
def test_tables_fold_where_they_would_have_to_scroll(tmp_path: Path, make: Callable[[], Record], width: int) -> None:
    page = html.render(make())
    # The measuring script is not the page's, so its policy must go.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", MEASURE)
    (tmp_path / "page.html").write_text(page, "utf-8")
    drawn = browse(tmp_path / "page.html", f"window-size={width},2000", "dump-dom")
    title = re.search(r"<title>(.*?)</title>", drawn, re.DOTALL)
    assert title is not None
    # The values of figures are unfolded by hand and have as many columns as there are systems.
    assert [name for name in title[1].split("|") if name and not name.startswith("Values: ")] == []
