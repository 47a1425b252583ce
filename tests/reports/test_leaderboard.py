from __future__ import annotations

import itertools
import re
import subprocess
from functools import cache
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from auditkit.comparison import Comparison, Rank, compare
from auditkit.errors import StoreError
from auditkit.record import Depth, Estimate, Record, Speedup
from auditkit.reports import leaderboard

from .sample import METHODS, crowded, hostile, invalid, minimal, record
from .test_html import CHROMIUM, Page


def board(*records: Record) -> Comparison:
    return compare(records, [f"audit-{place}/report.json" for place in range(1, len(records) + 1)])


def several() -> Comparison:
    other = record().backbone.model_copy(update={"name": "lightgcn"})
    items = record().request.model_copy(update={"digest": "items", "regime": "item"})
    return board(record(), record(METHODS[:2], backbone=other), record(METHODS[:3], request=items), invalid())


MADE = {
    "several": several(), "hostile": board(hostile()), "minimal": board(minimal()), "crowded": board(crowded(26)),
}  # fmt: skip


@cache
def drawn(name: str) -> str:
    return leaderboard.render(MADE[name])


@pytest.fixture(params=MADE)
def source(request: pytest.FixtureRequest) -> str:
    return drawn(request.param)


@pytest.fixture
def usual() -> str:
    return drawn("several")


def test_page_nests_names_every_id_once_and_loads_nothing(source: str) -> None:
    page = Page(source)
    ids = [attributes["id"] for _, attributes in page.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for _, a in page.seen if a.get("href", "").startswith("#")}
    labels = {name for _, a in page.seen for name in a.get("aria-labelledby", "").split()}
    assert targets | labels <= set(ids)
    for tag, attributes in page.seen:
        links = [attributes[name] for name in ("src", "href", "srcset", "data", "action") if name in attributes]
        assert all(link.startswith("#") or link == "data:," for link in links), tag
        assert not [name for name in attributes if name.startswith("on")]
    assert not page.all("script")
    assert [m["content"] for m in page.all("meta") if m.get("http-equiv")] == [
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    ]


def test_page_is_usable_without_eyes(source: str) -> None:
    page = Page(source)
    tags = [tag for tag, _ in page.seen]
    assert tags.count("main") == tags.count("h1") == 1
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in attributes for attributes in page.all("th"))
    assert all(a.get("role") == "img" or a["aria-hidden"] == "true" for a in page.all("svg"))
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    regions = [a["aria-label"] for _, a in page.seen if a.get("role") == "region"]
    figures = re.findall(r'<div class="panel">.*?<desc[^>]*>(.*?)</desc>', source, re.DOTALL)
    assert all("The values are in the table below." in text for text in figures)
    assert len(regions) >= tags.count("figure")


def test_same_comparison_gives_same_bytes(usual: str) -> None:
    assert leaderboard.render(several()) == usual


def test_groups_ranks_and_values_stand_in_the_page(usual: str) -> None:
    shown = Page(usual).words
    assert "10 systems of 4 audits" in shown
    assert "2 groups that cannot be compared with one another: their deletion requests differ" in shown
    assert "ml-100k, interaction request (1)" in shown
    assert "ml-100k, item request (2)" in shown
    # Both sisa of the first group and row-reinit overlap; that of the INVALID audit takes no place.
    first = shown.split("ml-100k, interaction request (1)")[1].split("Forgetting against recommending")[0]
    assert first.count("1 to 3 of 6") == 3
    assert "not ranked its audit is INVALID bpr-mf INVALID" in first
    assert "sisa published, audit 1 epochs = 5, learning_rate = 0.05" in first
    assert "-0.0046 [-0.0086, -0.0006] place" in first


def test_every_figure_has_a_table_of_its_values(usual: str) -> None:
    page = Page(usual)
    names = [a["id"] for a in page.all("figure")]
    assert names == ["figure-tradeoff-1", "figure-speedup-1", "figure-tradeoff-2", "figure-speedup-2"]
    assert "Forgetting against recommending: the values drawn" in page.words
    assert "finetune bpr-mf 1 -0.0046 [-0.0086, -0.0006] 0.3580 [0.2580, 0.4180]" in page.words
    assert "finetune bpr-mf 1 not measured: it shared the machine with another job" in page.words


def test_a_panel_for_each_backbone_and_no_figure_without_values() -> None:
    made = leaderboard.figures(1, MADE["several"].groups[0], leaderboard.styles(MADE["several"]))
    assert [(plate.name, len(plate.panels)) for plate in made] == [("tradeoff-1", 2), ("speedup-1", 1)]
    assert [entry.name for entry in made[0].legend][-2:] == ["original", "Gold"]
    assert leaderboard.figures(1, MADE["minimal"].groups[0], leaderboard.styles(MADE["minimal"])) == []


def test_extreme_and_partial_values_are_drawn_without_a_warning() -> None:
    wild = [
        system.model_copy(update={
            "depth": Depth(value=-1e300, low=None, high=1e300), "speedup_vs_gold": Speedup(value=1e300, low=1e-300),
            "utility": {"recall@20": system.utility["recall@20"].model_copy(
                update={"delta_vs_gold": Estimate(value=-1e300, low=-1e308, high=None)})},
        })
        for system in record().systems
    ]  # fmt: skip
    text = leaderboard.render(board(record(systems=wild)))
    assert Page(text).all("figure")
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).lower()


def test_a_reading_far_from_the_others_does_not_press_them_together() -> None:
    near, far = (Estimate(value=v, low=v - 0.01, high=v + 0.01) for v in (0.01, -0.5))
    low, high = leaderboard._recall_span([near, near, near, far], [])
    assert -0.1 < low < 0 < high < 0.1
    low, high = leaderboard._recall_span([far, far], [])
    assert low < -0.5
    assert high > 0


def test_methods_are_told_apart_without_colour() -> None:
    looks = [leaderboard._style(place) for place in range(72)]
    assert len(set(looks)) == 72
    assert len({(look.marker, look.filled) for look in looks[:24]}) == 24
    names = leaderboard.styles(MADE["several"])
    assert list(names) == sorted(names)


@pytest.mark.parametrize(
    ("rank", "said"), [(None, "not ranked"), (Rank(2, 2, 5), "2"), (Rank(2, 4, 5), "2 to 4")]
)  # fmt: skip
def test_places_in_words(rank: Rank | None, said: str) -> None:
    assert leaderboard.places(rank) == said


def test_plain_summary_is_aligned_and_steers_no_terminal() -> None:
    lines = leaderboard.summary(MADE["several"]).splitlines()
    assert lines[0] == "2 groups that cannot be compared with one another: their deletion requests differ"
    assert lines[2].startswith("ml-100k, interaction request ")
    header, first = lines[3], lines[4]
    assert first.startswith("1 to 3 ")
    assert first.index("sisa") == header.index("system")
    assert "\x1b" not in leaderboard.summary(MADE["hostile"])


def test_hostile_names_are_text(source: str) -> None:
    assert "<script" not in source
    assert "<img" not in source
    shown = Page(drawn("hostile")).words
    assert "<script>alert(1)</script>" in shown
    assert "\x1b" not in source


def test_write_replaces_the_page_or_leaves_it(tmp_path: Path) -> None:
    leaderboard.write(MADE["minimal"], tmp_path / "board.html")
    assert (tmp_path / "board.html").read_text(encoding="utf-8") == leaderboard.render(MADE["minimal"])
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(StoreError, match=r"folder\.html"):
        leaderboard.write(MADE["minimal"], tmp_path / "folder.html")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [500, 1280], ids=["narrow", "wide"])
def test_browser_draws_the_page(tmp_path: Path, width: int) -> None:
    leaderboard.write(MADE["several"], tmp_path / "board.html")
    picture = tmp_path / "page.png"
    switches = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        f"disable-component-update disable-sync hide-scrollbars window-size={width},2400"
    )
    command = [
        *(str(CHROMIUM), *(f"--{switch}" for switch in switches.split())),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--blink-settings=preferredColorScheme=1"),
        *(f"--screenshot={picture}", (tmp_path / "board.html").as_uri()),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pixels = np.asarray(matplotlib.image.imread(picture))[..., :3]
    assert pixels.shape[:2] == (2400, width)
    assert all(band.std() > 0.02 for band in np.array_split(pixels, 5))
    assert np.median(pixels) > 0.5
    # Nothing runs off the page: the margin on the right is paper from top to bottom.
    assert pixels[:, -6:].min() > 0.95
