"""How large the HTML page of a report of many units is, and how long a browser takes to open it.

    python -m benchmarks.report_page [--units 50000] [--report FOLDER] [--browser chromium]

Without --report the small demonstration is audited first (seven methods, six of which the primary attack reads). The
units of the report are drawn again until there are as many as asked for, each with its own number and a little noise.
Prints the page's size, the seconds to render it, and what a headless Chromium measures: from navigation until the page
is laid out, and until a click on a heading has sorted all lines; then the wall time of a whole picture of the page
beside that of an empty page. Times are medians of several runs; other work on the machine adds to them.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from auditkit.demo import run_demo
from auditkit.record import Record
from auditkit.reports import html
from auditkit.writing import UNITS, write_outputs

RUNS = 5
SWITCHES = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "hide-scrollbars", "window-size=1200,4000"),
)
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
# Reading a height makes the browser lay the page out before the clock is read.
PROBE = """<script>addEventListener("load", () => {
  const told = document.documentElement.dataset, height = () => document.body.offsetHeight;
  height(); told.loaded = performance.now();
  const before = performance.now();
  document.querySelector("#units-table th[data-key=deviation] button").click();
  height(); told.sorted = performance.now() - before;
});</script>"""


def enlarged(report: Path, n_units: int, out: Path) -> Record:
    """A report in `out` whose table holds `n_units` units with readings, drawn from those of `report`."""
    table = pd.read_parquet(report / UNITS)
    table = table[table["original_score"].notna()]
    rng = np.random.default_rng(0)
    drawn = table.iloc[rng.integers(0, len(table), n_units)].reset_index(drop=True)
    drawn["unit"] = np.arange(n_units)
    for name in drawn.columns:
        if name.startswith(("score:", "deviation:")):
            drawn[name] += rng.normal(0, 0.01 * float(drawn[name].std()), n_units)
    return write_outputs(Record.read(report / "report.json"), drawn, out)


def browse(browser: str, page: Path, switch: str) -> tuple[float, str]:
    """Wall seconds of one start of the browser on a page, and what it printed."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *(f"--{name}" for name in SWITCHES), f"--user-data-dir={profile}", switch, page.as_uri()]
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, timeout=300)
        return time.perf_counter() - start, done.stdout.decode("utf-8", "replace")


def measured(browser: str, page: Path) -> dict[str, float]:
    """Seconds until the page is laid out and until all its lines are sorted, by the browser's own clock."""
    probed = page.with_name("probed.html")
    source = POLICY.sub("", page.read_text(encoding="utf-8")).replace("</body>", f"{PROBE}</body>")
    probed.write_text(source, encoding="utf-8")
    told = [
        dict(re.findall(r'data-(loaded|sorted)="([\d.]+)"', browse(browser, probed, "--dump-dom")[1]))
        for _ in range(RUNS)
    ]
    return {name: statistics.median(float(run[name]) / 1000 for run in told) for name in ("loaded", "sorted")}


def pictured(browser: str, page: Path) -> float:
    """Median wall seconds of starting the browser, drawing the page and writing a picture."""
    picture = page.with_suffix(".png")
    return statistics.median(browse(browser, page, f"--screenshot={picture}")[0] for _ in range(RUNS))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=50_000)
    parser.add_argument("--report", type=Path, help="folder of a finished report; default: audit the demonstration")
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        report = options.report or folder / "demo"
        if options.report is None:
            run_demo(report, quick=True, progress=lambda *_: None)
        record = enlarged(report, options.units, folder / "large")
        page = folder / "large" / "report.html"
        wall, used = time.perf_counter(), time.process_time()
        html.write(record, page)
        print(f"units {options.units:,}  page {page.stat().st_size / 1e6:.2f} MB")
        print(f"render {time.perf_counter() - wall:.2f} s wall, {time.process_time() - used:.2f} s processor")
        if options.browser is None:
            print("no Chromium found; name one with --browser")
            return
        told = measured(options.browser, page)
        print(f"load {told['loaded']:.2f} s until laid out, then {told['sorted']:.2f} s to read and sort all lines")
        empty = folder / "empty.html"
        empty.write_text("<!doctype html><title>empty</title>", encoding="utf-8")
        whole, nothing = pictured(options.browser, page), pictured(options.browser, empty)
        print(f"picture {whole:.2f} s wall, of an empty page {nothing:.2f} s")


if __name__ == "__main__":
    main()
