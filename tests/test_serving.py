from __future__ import annotations

import numpy as np
import pytest

from auditkit.contracts import Access, Backbone, Recipe
from auditkit.deletion import Regime
from auditkit.plan import ALL_ACCESS
from auditkit.serving import Serving, inspect_serving, served_finding
from auditkit.testing.examples import REGIMES, OffersNothing, small_case, small_data
from auditkit.unlearners.controls import Masked


def model(backbone: str, regime: Regime, *, forgotten: bool) -> Backbone:
    case = small_case(regime)
    return Recipe.of(backbone).model(case.retain if forgotten else small_data(), 0)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize(("backbone", "used"), [("bpr-mf", False), ("lightgcn", True), ("ease", True)])
def test_forgotten_pairs_in_serving_data_are_counted(regime: Regime, backbone: str, used: bool) -> None:
    case = small_case(regime)
    total = len(small_data().train) - len(case.retain.train)
    kept, gone = (inspect_serving(model(backbone, regime, forgotten=f), case, ALL_ACCESS) for f in (False, True))
    assert kept == Serving(True, used, total, total)
    assert gone == Serving(True, used, 0, total)


def test_a_mask_is_looked_beneath() -> None:
    case = small_case("user")
    hidden = np.stack([case.request.users, case.request.items], axis=1)
    seen = inspect_serving(Masked(model("lightgcn", "user", forgotten=False), hidden), case, ALL_ACCESS)
    assert seen.known
    assert seen.left == seen.total > 0


def test_a_stranger_cannot_be_inspected() -> None:
    seen = inspect_serving(OffersNothing(60, 40), small_case("user"), ALL_ACCESS)
    assert not seen.known
    found = served_finding([seen])
    assert found.section == "not_applicable"
    assert not found.counts


@pytest.mark.parametrize(
    ("serving", "section", "counts", "note"),
    [
        (Serving(True, True, 3, 9), "leak", True, "3 of 9 forgotten pairs are still in what"),
        (Serving(True, False, 3, 9), "clean", False, "kept in a history the scores do not use"),
        (Serving(True, True, 0, 9), "clean", True, "no forgotten pair"),
    ],
)
def test_findings(serving: Serving, section: str, counts: bool, note: str) -> None:
    found = served_finding([serving])
    assert (found.section, found.counts) == (section, counts)
    assert note in found.note
    assert found.access == ["WEIGHTS"]
    assert found.n_units == 9


def test_the_worst_run_counts() -> None:
    runs = [Serving(True, True, 0, 9), Serving(True, True, 2, 9)]
    assert served_finding(runs).section == "leak"
    assert served_finding([*runs, Serving(False, False, 0, 9)]).section == "not_applicable"


def test_without_access_to_weights_nothing_is_known_of_what_is_served() -> None:
    case = small_case("interaction")
    seen = inspect_serving(model("lightgcn", "interaction", forgotten=False), case, ALL_ACCESS & ~Access.WEIGHTS)
    assert not seen.known
    assert served_finding([seen]).section == "not_applicable"
