from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from auditkit.record import Curves, Estimate, RankShift, Record, RocCurve
from auditkit.reports import figures, plates, svg, words

from .sample import METHODS, crowded, hostile, minimal, record


def texts(panel: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(panel).iter("text")]


@pytest.fixture(scope="module")
def usual() -> list[plates.Plate]:
    return figures.plates(record())


@pytest.fixture(scope="module")
def named(usual: list[plates.Plate]) -> dict[str, plates.Plate]:
    return {plate.name: plate for plate in usual}


def by_name(whole: Record) -> dict[str, plates.Plate]:
    return {plate.name: plate for plate in figures.plates(whole)}


def test_figures_come_in_reading_order_and_repeat_byte_for_byte(usual: list[plates.Plate]) -> None:
    assert [plate.name for plate in usual] == ["dose", "deciles", "roc", "scores", "ranks", "trajectories"]
    assert usual == figures.plates(record())


def test_every_panel_is_labelled_themed_text_without_metadata(usual: list[plates.Plate]) -> None:
    for plate in usual:
        for panel in plate.panels:
            root = ElementTree.fromstring(panel)
            first, second = root[0], root[1]
            assert (first.tag, second.tag) == ("title", "desc")
            assert first.text
            assert second.text
            assert root.get("aria-labelledby") == f"{first.get('id')} {second.get('id')}"
            assert "var(--ink" in panel
            assert texts(panel)
            for banned in ("metadata", "http:", "xlink", "<?xml", "DOCTYPE", "DejaVu", "<style"):
                assert banned not in panel


def test_every_group_with_a_reading_is_drawn_and_all_are_listed(named: dict[str, plates.Plate]) -> None:
    plate = named["deciles"]
    assert len(plate.panels) == len(METHODS)
    assert [entry.name for entry in plate.legend] == ["by popularity", "by activity"]
    assert len(plate.table.rows) == 20 * len(METHODS)
    silent, *others = plate.table.rows[:20]
    assert silent[1:] == (
        "popularity 1 to 3", "400", "not measured", "not measured",
        "the original does not stand out from the Golds in this group",
    )  # fmt: skip
    assert [row[1] for row in others if row[-1] == "farthest from Gold"] == ["popularity 190 to 583"]
    # A mark for each of the 19 groups that have a reading, a tick at either end of the axis.
    root = ElementTree.fromstring(plate.panels[0])
    colours = [f"var(--series-{k}" for k in (0, 1)]
    marks = [use.get("style", "") for use in root.iter("use") if any(c in use.get("style", "") for c in colours)]
    assert len(marks) == 19
    assert {"1", "10"} <= set(texts(plate.panels[0]))


def test_one_kind_of_group_names_the_figure() -> None:
    single = [s.model_copy(update={"deciles": [d for d in s.deciles if d.by == "activity"]}) for s in record().systems]
    plate = by_name(record().model_copy(update={"systems": single}))["deciles"]
    assert plate.title == "Dose by activity"
    assert [entry.name for entry in plate.legend] == ["by activity"]


def test_without_groups_there_is_no_figure_of_them() -> None:
    bare = [s.model_copy(update={"deciles": []}) for s in record().systems]
    assert "deciles" not in by_name(record().model_copy(update={"systems": bare}))


def test_hostile_names_are_text_in_figures() -> None:
    made = by_name(hostile())
    assert "$x_{1" in texts(made["dose"].panels[1])
    assert "<script>alert(1)</script>" in texts(made["scores"].panels[0])
    assert "<script" not in "".join(panel for plate in made.values() for panel in plate.panels)


def test_ladder_draws_every_rung_and_every_audited_system(named: dict[str, plates.Plate]) -> None:
    plate = named["dose"]
    assert len(plate.table.rows) == len(record().ladder)
    assert ("reference 3", "reference", "0.219", "0.219") in [row[:4] for row in plate.table.rows]
    assert plate.table.rows[-1][2] == "unknown"
    assert {method[0] for method in METHODS} <= set(texts(plate.panels[1]))
    assert [entry.name for entry in plate.legend] == [
        "original", "Golds", "references", "controls", *(method[0] for method in METHODS),
    ]  # fmt: skip


def test_readings_alone_are_drawn_where_there_is_no_ladder() -> None:
    plate = by_name(record(ladder=[], curves=Curves()))["dose"]
    assert len(plate.panels) == 1
    assert plate.caption == words.CAPTIONS["readings"]


def test_unmeasured_statistic_says_so_in_its_place() -> None:
    whole = record(METHODS[:1], curves=Curves())
    blind = whole.systems[-1].model_copy(update={"spread": Estimate(note="fewer than 20 units")})
    panel = by_name(whole.model_copy(update={"systems": [*whole.systems[:-1], blind]}))["dose"].panels[1]
    assert texts(panel).count("not measured") == 1


def test_roc_table_reads_the_curve_and_refuses_what_too_few_golds_cannot_show() -> None:
    curve = RocCurve(system="s", fpr=[0, 0, 0.5, 1], tpr=[0, 0.2, 0.6, 1], n_positive=50, n_negative=100)
    plate = by_name(record(curves=Curves(roc=[curve])))["roc"]
    row = dict(zip(plate.table.columns, plate.table.rows[0], strict=True))
    assert row["TPR at FPR 0.001"] == "not measurable"
    assert row["TPR at FPR 0.25"] == "0.400"
    assert row["TPR at FPR 0.5"] == "0.600"
    assert row["Gold units"] == "100"


def test_height_takes_the_top_of_a_vertical_step() -> None:
    curve = RocCurve(system="s", fpr=[0, 0, 1], tpr=[0, 0.3, 1], n_positive=10, n_negative=10)
    np.testing.assert_allclose(figures.height(curve, np.array([0.0, 0.5, 1.0])), [0.3, 0.65, 1.0])


def test_legend_states_the_auc_of_the_primary_finding(named: dict[str, plates.Plate]) -> None:
    notes = {entry.name: entry.note for entry in named["roc"].legend}
    assert notes["finetune"] == "AUC 0.693 [0.681, 0.705]"


def test_score_panels_share_bins_and_one_system_each(named: dict[str, plates.Plate]) -> None:
    plate = named["scores"]
    assert plate.small
    assert len(plate.panels) == len(METHODS)
    assert plate.table.columns == ("Unit score", "Golds", "original", *(method[0] for method in METHODS))
    assert len(plate.table.rows) == 30


def test_rank_table_aligns_curves_of_different_quantiles() -> None:
    shift = record().curves.rank_shift[0]
    coarse = shift.model_copy(update={"system": "coarse", "quantiles": [0.0, 1.0], "rank": [0.25, 0.75]})
    table = by_name(record(curves=Curves(rank_shift=[shift, coarse])))["ranks"].table
    assert table.rows[0][2] == "0.250"
    assert table.rows[1][2] == "not measured"


def test_trajectories_read_each_quantile_of_original_audited_and_gold() -> None:
    ways = {"original": [0.4, 0.8, 1.0], "sisa": [0.0, 0.6, 0.8], "Golds": [0.0, 0.5, 1.0]}
    shifts = [RankShift(system=name, quantiles=[0.0, 0.5, 1.0], rank=ranks) for name, ranks in ways.items()]
    plate = by_name(record(METHODS[:1], curves=Curves(rank_shift=shifts)))["trajectories"]
    assert plate.table.columns == ("System", "Of the forgotten pairs", "Original", "Audited", "Gold")
    assert [row[1] for row in plate.table.rows] == [
        "95% quantile", "75% quantile", "median", "25% quantile", "5% quantile",
    ]  # fmt: skip
    assert plate.table.rows[1] == ("sisa", "75% quantile", "0.900", "0.700", "0.750")
    assert plate.table.rows[-1] == ("sisa", "5% quantile", "0.440", "0.060", "0.050")
    assert [entry.name for entry in plate.legend] == [row[1] for row in plate.table.rows]
    assert len({(entry.swatch.split("style", 1)[1]) for entry in plate.legend}) == 5
    assert {"sisa", "original", "audited", "Gold"} <= set(texts(plate.panels[0]))


def test_trajectories_have_a_panel_for_each_audited_system(named: dict[str, plates.Plate]) -> None:
    plate = named["trajectories"]
    assert plate.small
    assert [texts(panel)[-1] for panel in plate.panels] == [method[0] for method in METHODS]


@pytest.mark.parametrize("gone", ["Golds", "original", "sisa"])
def test_without_one_of_the_three_there_are_no_trajectories(gone: str) -> None:
    shifts = [shift for shift in record(METHODS[:1]).curves.rank_shift if shift.system != gone]
    assert "trajectories" not in by_name(record(METHODS[:1], curves=Curves(rank_shift=shifts)))
    empty = RankShift(system=gone, quantiles=[], rank=[])
    assert "trajectories" not in by_name(record(METHODS[:1], curves=Curves(rank_shift=[*shifts, empty])))


def test_twelve_systems_are_told_apart_without_colour() -> None:
    whole = crowded(12)
    chosen = plates.styles(whole, [system.name for system in words.audited(whole)])
    assert len({(style.marker, style.dashes) for style in chosen.values()}) == 12
    assert len(by_name(whole)["scores"].panels) == 12


def test_nothing_measured_draws_nothing() -> None:
    assert figures.plates(minimal()) == []


def test_no_audited_scores_still_show_what_they_would_be_compared_with() -> None:
    plate = by_name(record(()))["scores"]
    assert len(plate.panels) == 1
    assert "systems to compare with" in texts(plate.panels[0])


@pytest.mark.parametrize(("name", "drawn"), [("a\nb\x1b", "a b?"), ("x" * 30, "x" * 23 + "…"), ("fine", "fine")])
def test_labels_fit_one_line(name: str, drawn: str) -> None:
    assert svg.label(name) == drawn


def test_audited_system_called_like_a_yardstick_keeps_its_own_mark() -> None:
    whole = record((("gold", "PASS", 0.0, 0.0, 0.0), ("gold", "FAIL", 0.9, 0.9, 0.9)), curves=Curves())
    plate = by_name(whole)["dose"]
    names = [entry.name for entry in plate.legend]
    assert names.count("gold") == 2
    assert plates.role_of(whole, "gold") == "unlearned"
    assert plates.role_of(whole, "Golds") == "gold"
    assert len({entry.swatch.split("style", 1)[1] for entry in plate.legend if entry.name == "gold"}) > 1
