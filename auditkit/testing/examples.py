"""Small real data, requests and trained systems that the kits ask their questions of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from auditkit.builds import System, Train
from auditkit.contracts import Backbone, Probe, Recipe, Recommender, Side, Task
from auditkit.data.dataset import Bools, Dataset, Interactions, Ints
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Regime, Share, select
from auditkit.evidence import Case, Evidence, fix_points, make_case, observe
from auditkit.plan import reference_shares
from auditkit.plugins import backbones, register

REGIMES: tuple[Regime, ...] = ("interaction", "user", "item")
_GOLDS = 4
_REFERENCES = 8


@cache
def small_data() -> Dataset:
    """60 users, 40 items, 1,200 interactions, one modality."""
    return Dataset.synthetic(
        n_users=60, n_items=40, n_interactions=1_200, clusters=4, features=("text",), width=8, seed=1
    )


@cache
def small_request(regime: Regime) -> DeletionRequest:
    """A tenth of the units of `small_data`, chosen at random."""
    withdrawn = ("text",) if regime == "modality" else ()
    return select(small_data(), regime, share=0.1, seed=1, modalities=withdrawn)


@cache
def small_case(regime: Regime) -> Case:
    """The units of an audit of `small_request`."""
    return make_case(small_data(), small_request(regime), seed=1)


def recipe_of(backbone: type[Backbone], config: object, fit: object) -> Recipe:
    """A resolved recipe; a backbone that has no entry point is made known to this process."""
    if backbone.name not in backbones():
        register("backbones", backbone)
    return Recipe.of(backbone.name, config, fit)  # type: ignore[arg-type]


def small_task(data: Dataset, request: DeletionRequest, recipe: Recipe, units: Bools | None = None) -> Task:
    """What an unlearner is given: the parent's data without its test part, and what is left of it."""
    gone = np.ones(request.n_units, np.bool_) if units is None else units
    untested = replace(data, test=Interactions.empty())
    return Task(
        untested, request.erase(untested, gone), request.forget_set(untested, gone), request, gone, recipe, "cpu"
    )


@cache
def small_systems(regime: Regime) -> tuple[tuple[System, Recommender], ...]:
    """Systems of one audit: 2 originals, 4 Golds, 8 references, 1 more Gold as the system under test.

    BPR-MF; in modality requests VBPR, which reads what they withdraw.
    """
    recipe = Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 40})
    if regime == "modality":
        recipe = Recipe.of("vbpr", {"factors": 8}, {"epochs": 40, "learning_rate": 0.02, "batch": 256})
    shares = [NOBODY] * 2 + [EVERYBODY] * _GOLDS + reference_shares(_REFERENCES, seed=1) + [EVERYBODY]
    roles = ["original"] * 2 + ["gold"] * _GOLDS + ["reference"] * _REFERENCES + ["unlearned"]
    data, request = small_data(), small_request(regime)
    members = [(request.erase(data, request.units(share)), seed) for seed, share in enumerate(shares)]
    models = recipe.architecture().fit(members, recipe, device="cpu")
    systems = [_system(role, k, recipe, share) for k, (role, share) in enumerate(zip(roles, shares, strict=True))]
    return tuple(zip(systems, models, strict=True))


def _system(role: str, seed: int, recipe: Recipe, share: Share) -> System:
    return System(f"{role}-{seed}", role, Train(recipe, share, seed), role)  # type: ignore[arg-type]


@cache
def small_evidence(probes: tuple[Probe, ...], regime: Regime) -> Evidence | None:
    """What the probes see of `small_systems`; None where one of them does not apply to the regime."""
    case = small_case(regime)
    questions = fix_points(probes, case, seed=1)
    if set(questions) != set(probes):
        return None
    found = observe(small_systems(regime), questions, case, seed=1)
    return found if set(found.readings) == set(probes) else None


@dataclass
class OffersNothing:
    """A recommender that answers NaN to everything: what a probe must survive.

    Attributes:
        n_users, n_items: sizes of the id spaces.
    """

    n_users: int
    n_items: int

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """NaN, float32 [n_given_users, n_items]."""
        return torch.full((len(users), self.n_items), torch.nan)

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """NaN, float32 [n_histories, n_items] or [n_histories, n_users]."""
        return torch.full((len(histories), self.n_items if side == "user" else self.n_users), torch.nan)
