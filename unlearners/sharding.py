"""Training in shards: each on its own part of the data, so that a deletion retrains only the shards it touches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from auditkit.contracts import Backbone, Recipe, Recommender, Side, Task, Unlearner
from auditkit.costs import piece
from auditkit.data.dataset import Bools, Dataset, Floats, Interactions, Ints
from auditkit.errors import ConfigurationError


class Sharded:
    """Sub-models over disjoint parts of the data, whose scores are averaged.

    A user's score is the mean over the shards that hold her; the others never saw her, and their rows of her are as
    they were drawn. A user whom no shard holds gets the mean over the shards that hold anything. Who is held is read
    from what the shards are served over, so that no record outlives the pairs.

    Attributes:
        backbones: the sub-models, one per shard, each served over its own pairs.
        n_users, n_items: sizes of the id spaces, alike for all shards.
    """

    def __init__(self, backbones: Sequence[Backbone]) -> None:
        self.backbones = tuple(backbones)
        self.n_users, self.n_items = backbones[0].n_users, backbones[0].n_items
        trains = [backbone.data.train for backbone in backbones]
        self._held = {
            "user": np.stack([np.bincount(t.users, minlength=self.n_users) > 0 for t in trains]),
            "item": np.stack([np.bincount(t.items, minlength=self.n_items) > 0 for t in trains]),
        }
        lengths = np.array([len(train) for train in trains])
        filled = np.minimum(lengths, 1) if lengths.any() else np.ones_like(lengths)
        counted = np.where(self._held["user"].any(0), self._held["user"], filled[:, None])
        self._of_users = (counted / counted.sum(0)).astype(np.float32)
        self._of_all = (filled / filled.sum()).astype(np.float32)[:, None]

    def score(self, users: Ints, *, branch: str | None = None) -> Tensor:
        """Scores of all items for each user, float [n_given_users, n_items]."""
        asked = np.asarray(users)
        scores = torch.zeros(len(asked), self.n_items, device=self.backbones[0].device)
        for backbone, weights in zip(self.backbones, self._of_users, strict=True):
            rows = np.flatnonzero(weights[asked])
            if len(rows):
                part = backbone.score(asked[rows], branch=branch).to(scores)
                part *= torch.from_numpy(weights[asked[rows], None]).to(scores)
                scores.index_add_(0, torch.from_numpy(rows).to(scores.device), part)
        return scores

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> Tensor:
        """Scores of fresh entities: the mean of what each shard's own fold-in says.

        A shard is told the ids that it holds, or all of them where it holds none. A fresh user is in no shard, so all
        shards that hold anything count alike; a fresh item's score for a user comes from the shards that hold her.

        Returns:
            float [n_histories, n_items], or [n_histories, n_users] for `side="item"`.
        """
        weights = self._of_all if side == "user" else self._of_users
        known = self._held["item" if side == "user" else "user"]
        told = [[_those_held(np.asarray(h), of_shard) for h in histories] for of_shard in known]
        parts = (
            part.fold_in(ids, side=side).mul(torch.from_numpy(weight).to(part.device))
            for part, ids, weight in zip(self.backbones, told, weights, strict=True)
            if weight.any()
        )
        return reduce(torch.add, parts)


def _those_held(history: Ints, held: Bools) -> Ints:
    kept = history[held[history]]
    return kept if len(kept) else history


def shard_data(data: Dataset, rows: Bools) -> Dataset:
    """What one shard is trained on: some training pairs, and the validation pairs of the users in them.

    A shard that holds no validation user keeps them all, so that early stopping has something to look at.

    Args:
        data: the whole.
        rows: bool [n_train].
    """
    train = data.train.take(rows)
    own = data.valid.take(np.isin(data.valid.users, train.users))
    return replace(data, train=train, valid=own if len(own) else data.valid, test=Interactions.empty())


def train_shard(data: Dataset, recipe: Recipe, seed: int, device: str) -> Backbone:
    """A plain system of the recipe's backbone on one shard; a shard without pairs stays as it was drawn."""
    with piece():
        return _plain(data, recipe, seed, device)


def _plain(data: Dataset, recipe: Recipe, seed: int, device: str) -> Backbone:
    if len(data.train):
        return recipe.architecture().fit([(data, seed)], recipe, device=device)[0].to(device)
    return recipe.model(data, seed).to(device).eval()


@dataclass(frozen=True)
class ShardedTraining(Unlearner):
    """A method whose training is shards: it says how pairs are divided and how the sub-models are combined.

    The time of training holds everything: vectors to cluster, the partition, all shards, the aggregator.

    Attributes:
        shards: how many, 1 or more.
    """

    shards: int = 10
    trains: ClassVar[bool] = True

    def __post_init__(self) -> None:
        problems = self.problems()
        if problems:
            raise ConfigurationError([f"{self.name}: {problem}" for problem in problems])

    def problems(self) -> list[str]:
        """What is wrong with the hyper-parameters, in words."""
        return [] if self.shards >= 1 else [f"shards must be 1 or more, got {self.shards}"]

    @abstractmethod
    def parts(self, data: Dataset, recipe: Recipe, *, device: str, rng: np.random.Generator) -> Ints:
        """The shard of every training pair, int64 [n_train], in [0, shards)."""

    def combine(
        self, backbones: Sequence[Backbone], data: Dataset, recipe: Recipe, rng: np.random.Generator
    ) -> Sharded:
        """What is served over trained shards. Default: the mean of their scores.

        Args:
            backbones: one per shard.
            data: the union of what they are served over, to fit an aggregator on.
            recipe: of the shards.
            rng: of the fit.
        """
        return Sharded(backbones)

    def train(self, data: Dataset, recipe: Recipe, *, device: str, seed: int) -> Sharded:
        """Divide the data, train every shard, combine."""
        rng = np.random.default_rng(seed)
        parts = self.parts(data, recipe, device=device, rng=rng)
        seeds = shard_seeds(rng, self.shards)
        shards = [shard_data(data, parts == k) for k in range(self.shards)]
        backbones = [train_shard(shard, recipe, s, device) for shard, s in zip(shards, seeds, strict=True)]
        return self.combine(backbones, data, recipe, rng)

    def unlearn(self, model: Recommender, task: Task, *, rng: np.random.Generator) -> Sharded:
        """Train the shards whose data change again, on what is left and with fresh seeds, and combine anew.

        The other shards keep their weights bit for bit. Where no shard changes, nor does the combination.

        Raises:
            ConfigurationError: `model` is not of shards.
        """
        if not isinstance(model, Sharded):
            raise ConfigurationError(
                f"{self.name} unlearns what it trained in shards, got a {type(model).__name__}; make it the recipe's "
                "trainer"
            )
        backbones, changed = [], False
        for backbone, seed in zip(model.backbones, shard_seeds(rng, len(model.backbones)), strict=True):
            codes = backbone.data.train.codes(model.n_items)
            before, after = (_part_of(data, codes) for data in (task.data, task.retain))
            kept = before.digest == after.digest
            changed |= not kept
            backbones.append(backbone.on(after) if kept else train_shard(after, task.recipe, seed, task.device))
        if not changed:
            return self.load(backbones, self.dump(model)[1])
        return self.combine(backbones, task.retain, task.recipe, rng)

    def dump(self, served: Recommender) -> tuple[tuple[Backbone, ...], dict[str, Floats | Ints]]:
        """All shards; an aggregator's weights are added by the method that has one."""
        assert isinstance(served, Sharded)
        return served.backbones, {}

    def load(self, backbones: Sequence[Backbone], arrays: Mapping[str, Floats | Ints]) -> Sharded:
        """The inverse of `dump`."""
        return Sharded(backbones)


def shard_seeds(rng: np.random.Generator, n: int) -> list[int]:
    """A seed for each of `n` shards, the next draws of `rng`."""
    return [int(seed) for seed in rng.integers(2**31, size=n)]


def _part_of(data: Dataset, codes: Ints) -> Dataset:
    """The shard of `data` that has the pairs of these codes."""
    return shard_data(data, np.isin(data.train.codes(data.n_items), codes))


# Backbones whose vectors are tables of their own, which can be clustered and combined.
TABLES = ("bpr-mf", "lightgcn")


def without_tables(recipe: Recipe) -> str | None:
    """Why a method that clusters or combines vectors cannot shard this backbone; None where it can."""
    if recipe.backbone in TABLES:
        return None
    known = " and ".join(TABLES)
    return f"it clusters and combines plain tables of user and item vectors, which are all that {known} learn; " + (
        f"{recipe.backbone} is not of that kind"
    )


def pretrained(data: Dataset, recipe: Recipe, epochs: int, *, device: str, seed: int) -> tuple[Floats, Floats]:
    """Vectors to cluster by: those of a short plain training of the recipe's backbone on all of the data.

    The published methods cluster by vectors of a weighted matrix factorization that is trained beforehand. Either way
    the division remembers the data it was made from.

    Returns:
        float64 [n_users, d] and [n_items, d].
    """
    short = replace(recipe, fit=replace(recipe.fit, epochs=min(epochs, recipe.fit.epochs), patience=None))
    users, items = _plain(data, short, seed, device).embed()
    return users.detach().double().cpu().numpy(), items.detach().double().cpu().numpy()
