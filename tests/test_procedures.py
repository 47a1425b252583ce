"""Audits of what is not one plain request of one plain system: streams of requests, and methods that train shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import auditkit
from auditkit.comparison import compare
from auditkit.contracts import Backbone, Recipe, Recommender, Task, Unlearner
from auditkit.costs import piece
from auditkit.data.dataset import Dataset, Floats, Ints
from auditkit.deletion import DeletionRequest
from auditkit.plan import Method, Settings
from auditkit.record import Record, SystemEntry
from auditkit.unlearners.controls import NoOp
from auditkit.unlearners.gold import Gold

SETTINGS = Settings(profile="quick", golds=6, references=16, margin=0.3)


class Pair:
    """Two models of half of the pairs each; the score is the mean."""

    def __init__(self, backbones: Sequence[Backbone]) -> None:
        self.backbones = tuple(backbones)
        self.n_users, self.n_items = backbones[0].n_users, backbones[0].n_items

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        return torch.stack([part.score(users) for part in self.backbones]).mean(0)


@dataclass(frozen=True)
class OddEven(Unlearner):
    """Trains two halves of the items apart. Deletion trains both anew; `forgetful` false keeps one of them."""

    forgetful: bool = True
    name: ClassVar[str] = "test-procedures-odd-even"
    trains: ClassVar[bool] = True

    def train(self, data: Dataset, recipe: Recipe, *, device: str, seed: int) -> Recommender:
        return Pair([self._half(data, recipe, k, seed + k, device) for k in (0, 1)])

    def _half(self, data: Dataset, recipe: Recipe, k: int, seed: int, device: str) -> Backbone:
        kept = data.train.take(data.train.items % 2 == k)
        own = Dataset(data.name, data.n_users, data.n_items, kept, data.valid, data.test, data.features)
        with piece():
            return recipe.architecture().fit([(own, seed)], recipe, device=device)[0]

    def unlearn(self, model: Any, task: Task, *, rng: np.random.Generator) -> Recommender:
        seed = int(rng.integers(2**31))
        fresh = self.train(task.retain, task.recipe, device=task.device, seed=seed)
        assert isinstance(fresh, Pair)
        return fresh if self.forgetful else Pair((fresh.backbones[0], model.backbones[1]))

    def dump(self, served: Any) -> tuple[tuple[Backbone, ...], dict[str, Floats | Ints]]:
        return served.backbones, {}

    def load(self, backbones: Sequence[Backbone], arrays: Any) -> Recommender:
        return Pair(backbones)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.of("bpr-mf", {"factors": 16}, {"epochs": 60})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("procedures")


def named(record: Record, name: str) -> SystemEntry:
    return next(s for s in record.systems if s.name == name)


def test_a_stream_of_requests_is_read_along_the_way(
    tiny: Dataset, tiny_request: DeletionRequest, recipe: Recipe, folder: Path
) -> None:
    methods = [Method(Gold(), steps=2, label="stream"), Method(Gold())]
    record = auditkit.audit(
        data=tiny, request=tiny_request, recipe=recipe, unlearners=methods, store=folder, settings=SETTINGS
    )
    assert {s.name: s.verdict for s in record.systems if s.role == "unlearned"} == {"stream": "PASS", "gold": "PASS"}
    (step,) = (rung for rung in record.ladder if rung.role == "step")
    assert step.name == "stream after 1 of 2"
    assert step.dose_units == pytest.approx(0.5, abs=1e-3)
    assert step.dose_true is not None
    assert step.low is not None
    assert step.high is not None
    assert step.dose_true == pytest.approx(0.5, abs=0.1)
    assert step.low < step.dose_true < step.high
    stream, once = named(record, "stream").cost, named(record, "gold").cost
    assert (stream.requests, once.requests) == (2, 1)
    assert stream.unlearn_s is not None
    assert stream.total_s == pytest.approx(2 * stream.unlearn_s)
    assert once.total_s == once.unlearn_s
    assert stream.solo


def test_shards_are_judged_by_golds_of_their_own_procedure(
    tiny: Dataset, tiny_request: DeletionRequest, recipe: Recipe, folder: Path
) -> None:
    record = auditkit.audit(
        data=tiny, request=tiny_request, recipe=recipe, unlearners=[OddEven(), NoOp(), Gold()], store=folder,
        settings=SETTINGS,
    )  # fmt: skip
    verdicts = {s.name: s.verdict for s in record.systems if s.role == "unlearned"}
    assert verdicts == {"test-procedures-odd-even": "PASS", "no-op": "FAIL", "gold": "PASS"}
    mine, golds, plain = (named(record, n) for n in ("test-procedures-odd-even", "Golds", "plain Golds"))
    assert mine.procedure == golds.procedure != plain.procedure
    assert mine.cost.n_pieces == golds.cost.n_pieces == 2
    assert plain.cost.n_pieces == 0
    assert mine.cost.slowest_piece_s is not None
    assert mine.cost.mean_piece_s is not None
    assert mine.cost.unlearn_s is not None
    assert mine.cost.mean_piece_s <= mine.cost.slowest_piece_s < mine.cost.unlearn_s
    # Speedup is against the plain Gold, with the work of both halves; utility too.
    assert plain.cost.train_s is not None
    assert mine.speedup_vs_gold.value == pytest.approx(plain.cost.train_s / mine.cost.unlearn_s, rel=0.2)
    recall = mine.utility["recall@20"]
    difference = (recall.value or 0) - (plain.utility["recall@20"].value or 0)
    assert recall.delta_vs_gold.value == pytest.approx(difference)
    assert golds.utility["recall@20"].delta_vs_gold.value is not None
    assert plain.utility["recall@20"].delta_vs_gold.value is None
    assert "test-procedures-odd-even (forgetful True)" in record.protocol.procedure
    assert (golds.role, plain.role) == ("gold", "plain gold")
    (band,) = compare([record], ["a"]).groups[0].yardsticks
    scatter = plain.utility["recall@20"]
    assert scatter.low is not None
    assert scatter.high is not None
    assert band.gold_recall.high == pytest.approx((scatter.high - scatter.low) / 2 * np.sqrt(7))


def test_a_half_that_is_kept_is_found(
    tiny: Dataset, tiny_request: DeletionRequest, recipe: Recipe, folder: Path
) -> None:
    record = auditkit.audit(
        data=tiny, request=tiny_request, recipe=recipe, unlearners=[OddEven(forgetful=False)], store=folder,
        settings=SETTINGS,
    )  # fmt: skip
    (system,) = (s for s in record.systems if s.role == "unlearned")
    assert system.verdict == "FAIL"
    assert system.residual_dose.value == pytest.approx(0.5, abs=0.15)
    served = next(f for f in system.findings if f.attack == "served-data")
    assert "forgotten pairs are kept" in served.note
