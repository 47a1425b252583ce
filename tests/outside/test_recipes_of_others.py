"""The rankings that RecBole and MMRec measure are those that an audit measures, with `masked` as each of them masks.

Neither is installed here. What they do at test is done again in plain loops, in the numbering that each of them uses,
and an export of the same scores goes through the audit's own readers.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from auditkit.data.dataset import Floats, Ints
from auditkit.data.readers import read
from auditkit.outside import embeddings
from auditkit.outside.source import Ids
from auditkit.protocol import Masked, Protocol
from auditkit.requests import Names
from auditkit.utility import evaluate

K = 20
PARTS = ("train", "valid", "test")
Pairs = set[tuple[int, int]]
_EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(_EXAMPLES)
    return importlib.import_module("export_files")


@pytest.fixture
def recbole(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(_EXAMPLES)
    return importlib.import_module("export_recbole")


@dataclass
class Problem:
    """A split and two tables whose product has no ties; user 3 has no test pair."""

    users: Floats
    items: Floats
    pairs: dict[str, Pairs]

    @property
    def scores(self) -> Floats:
        return np.asarray(self.users @ self.items.T)


def problem(seed: int, n_users: int = 25, n_items: int = 70) -> Problem:
    rng = np.random.default_rng(seed)
    part = rng.integers(6, size=(n_users, n_items))
    part[3][part[3] == 2] = 0
    # Everybody and everything is in train, so that no id is missing from the files.
    part[:, 0] = part[0, :] = 0
    pairs = {name: {(int(u), int(i)) for u, i in np.argwhere(part == k)} for k, name in enumerate(PARTS)}
    users, items = (rng.normal(size=(n, 8)) for n in (n_users, n_items))
    return Problem(users, items, pairs)


def naive(scores: Floats, asked: Iterable[int], truth: Pairs, hidden: Pairs) -> tuple[float, float]:
    """Recall@20 and NDCG@20, mean over the asked users, by loops."""
    recalls, gains = [], []
    for user in asked:
        wanted = {i for u, i in truth if u == user}
        offered = [i for i in range(scores.shape[1]) if (user, i) not in hidden]
        best = sorted(offered, key=lambda i: -scores[user, i])[:K]
        hits = [item in wanted for item in best]
        recalls.append(sum(hits) / len(wanted))
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(len(wanted), K)))
        gains.append(sum(hit / math.log2(rank + 2) for rank, hit in enumerate(hits)) / ideal)
    return sum(recalls) / len(recalls), sum(gains) / len(gains)


def as_recbole_measures(case: Problem, user_row: Ints, item_row: Ints) -> tuple[float, float]:
    """In RecBole's numbering: row 0 is padding and never ranked; at test a user's train and valid items are hidden."""
    scores = np.full((len(user_row) + 1, len(item_row) + 1), 9.0)
    scores[np.ix_(user_row, item_row)] = case.scores
    at = {name: {(int(user_row[u]), int(item_row[i])) for u, i in pairs} for name, pairs in case.pairs.items()}
    asked = sorted({u for u, _ in at["test"]})
    padding = {(user, 0) for user in asked}
    return naive(scores, asked, at["test"], (at["train"] | at["valid"] | padding) - at["test"])


def as_mmrec_measures(case: Problem) -> tuple[float, float]:
    """At test a user's train items score -1e10; valid items stay in the ranking."""
    scores = case.scores.copy()
    for user, item in case.pairs["train"]:
        scores[user, item] = -1e10
    return naive(scores, sorted({u for u, _ in case.pairs["test"]}), case.pairs["test"], set())


def audited(data: Path, system: Path, masked: Masked) -> tuple[float, float]:
    """What an audit measures of an exported system on an exported split."""
    dataset, report = read(data)
    assert report.split == "file"
    ids = Ids(dataset.n_users, dataset.n_items, Names(report.user_ids, report.item_ids))
    model = embeddings.source(str(system), ids, {}, folder=Path()).open()
    found = evaluate(model, dataset.test, Protocol(None, "file", masked).mask(dataset), ks=(K,)).mean()
    return found[f"recall@{K}"], found[f"ndcg@{K}"]


def shuffled_tokens(prefix: str, n: int, rng: np.random.Generator) -> tuple[NDArray[np.str_], Ints]:
    """Tokens of the rows of a RecBole table, padding first, and the row of each of n entities."""
    row = rng.permutation(n) + 1
    tokens = np.empty(n + 1, "<U9")
    tokens[0], tokens[row] = "[PAD]", [f"{prefix}{k}" for k in range(n)]
    return tokens, row


@pytest.mark.parametrize("seed", range(4))
def test_recbole_masks_train_and_valid(seed: int, files: ModuleType, recbole: ModuleType, tmp_path: Path) -> None:
    case, rng = problem(seed), np.random.default_rng(seed)
    tables, rows, kept = {}, {}, {}
    for side, values in (("user", case.users), ("item", case.items)):
        tokens, rows[side] = shuffled_tokens(side[0], len(values), rng)
        table = np.full((len(tokens), values.shape[1]), 9.0)
        table[rows[side]] = values
        order, kept[side] = recbole.rows_of(tokens, tokens[1:])
        tables[side] = table[order]
    files.write_split(tmp_path / "data", "tiny", {part: tokens_of(case.pairs[part]) for part in PARTS})
    (tmp_path / "ours").mkdir()
    files.write_tables(tmp_path / "ours", tables["user"], tables["item"], kept["user"], kept["item"])
    theirs = as_recbole_measures(case, rows["user"], rows["item"])
    assert audited(tmp_path / "data", tmp_path / "ours", "train+valid") == pytest.approx(theirs, abs=1e-12)
    other = audited(tmp_path / "data", tmp_path / "ours", "train")
    assert min(abs(a - b) for a, b in zip(other, theirs, strict=True)) > 1e-3


def tokens_of(pairs: Pairs) -> tuple[list[str], list[str]]:
    return [f"u{u}" for u, _ in sorted(pairs)], [f"i{i}" for _, i in sorted(pairs)]


@pytest.mark.parametrize("seed", range(4))
def test_mmrec_masks_train_alone(seed: int, files: ModuleType, tmp_path: Path) -> None:
    case = problem(seed)
    lines = ["userID\titemID\tx_label"]
    lines += [f"{u}\t{i}\t{k}" for k, part in enumerate(PARTS) for u, i in sorted(case.pairs[part])]
    (tmp_path / "tiny.inter").write_text("\n".join(lines) + "\n")
    system = tmp_path / "ours"
    system.mkdir()
    files.write_tables(system, case.users, case.items, np.arange(len(case.users)), np.arange(len(case.items)))
    theirs = as_mmrec_measures(case)
    assert audited(tmp_path / "tiny.inter", system, "train") == pytest.approx(theirs, abs=1e-12)
    other = audited(tmp_path / "tiny.inter", system, "train+valid")
    assert min(abs(a - b) for a, b in zip(other, theirs, strict=True)) > 1e-3


def test_users_without_a_test_pair_are_not_measured() -> None:
    case = problem(0)
    rows = np.arange(len(case.users)) + 1, np.arange(len(case.items)) + 1
    before = as_recbole_measures(case, *rows), as_mmrec_measures(case)
    case.users[3] = 0
    assert (as_recbole_measures(case, *rows), as_mmrec_measures(case)) == before
