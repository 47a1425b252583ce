"""The table of worst-case requests, on a small data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditkit.api import audit_plan
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset
from auditkit.plan import Method, Settings, make_plan
from auditkit.plugins import unlearners
from benchmarks.worst_cases import METHODS, SELECTIONS, line, requested

RECIPE = Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 4})


@pytest.mark.parametrize("how", [*SELECTIONS, "planted"])
def test_every_request_names_as_many_users_as_a_random_one(how: str, tmp_path: Path) -> None:
    data = Dataset.synthetic(n_users=60, n_items=80, n_interactions=1200, seed=0)
    trained_on, request = requested(data, "user", how, RECIPE, tmp_path)
    assert request.n_units == 3
    assert trained_on.n_users == data.n_users + (3 if how == "planted" else 0)
    assert (request.users >= data.n_users).all() == (how == "planted")


def test_a_line_has_a_reading_of_every_method(tmp_path: Path) -> None:
    data = Dataset.synthetic(n_users=60, n_items=80, n_interactions=1200, seed=0)
    trained_on, request = requested(data, "interaction", "tail", RECIPE, tmp_path)
    methods = [Method(unlearners()[name]()) for name in METHODS]
    plan = make_plan(trained_on, request, RECIPE, methods, settings=Settings(profile="quick"))
    cells = line("tail", request, audit_plan(plan, out=None, store=tmp_path)).strip("| ").split(" | ")
    assert cells[:2] == ["tail", str(request.n_units)]
    assert len(cells) == 4 + len(METHODS)
    assert all(cell.split(",")[0] in ("PASS", "FAIL", "INCONCLUSIVE", "INVALID") for cell in cells[4:])
    assert cells[-1].split(", ")[0] != "PASS"
