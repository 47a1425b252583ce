"""The worlds: data, recommender and request, with the pool of systems that audits are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from auditkit.builds import System, Train
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Regime, Share, select
from auditkit.plan import SIZES, seed_of
from auditkit.record import Role
from benchmarks.common import SMALL_LIGHTGCN, data_folder, read_implicit

# Of the recipe's.
OTHER_EPOCHS = (2 / 3, 3 / 2)


@dataclass(frozen=True)
class World:
    """One request on one data set and recommender.

    Attributes:
        name: of the section.
        dataset: folder under the data root.
        backbone, config, fit: recipe.
        regime: of the request, 5% of the candidates at random.
        golds, originals: in the pool.
        variants: honest deletions of each kind: Golds trained for 2/3 and 3/2 of the epochs.
        cells: complementary pairs of references, each at its own dose; at least half as many as a profile's references.
        profiles: that audits are drawn for.
    """

    name: str
    dataset: str
    backbone: str
    regime: Regime
    config: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    golds: int = 40
    originals: int = 4
    variants: int = 4
    cells: int = 32
    profiles: tuple[str, ...] = tuple(SIZES)

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return self.name.replace(" ", "-")

    @property
    def recipe(self) -> Recipe:
        """As its systems are trained."""
        return Recipe.of(self.backbone, dict(self.config), dict(self.fit))

    def data(self) -> Dataset:
        """The data set."""
        return read_implicit(data_folder(None, self.dataset))

    def request(self, data: Dataset) -> DeletionRequest:
        """What is forgotten; with items goes what they show."""
        modalities = data.modalities if self.regime == "item" else ()
        return select(data, self.regime, share=0.05, seed=0, modalities=modalities)

    def systems(self) -> list[System]:
        """Originals, Golds, references cell by cell, and honest deletions by another procedure."""
        made = [self._trained("original", k, NOBODY) for k in range(self.originals)]
        made += [self._trained("gold", k, EVERYBODY) for k in range(self.golds)]
        for cell in range(self.cells):
            cut, order = (2 * cell + 1) / (2 * self.cells), seed_of(0, "share", cell)
            for half, share in enumerate((Share(0.0, cut, order), Share(cut, 1.0, order))):
                made.append(self._trained("reference", 2 * cell + half, share))
        return made + [self._variant(part, k) for part in OTHER_EPOCHS for k in range(self.variants)]

    def _variant(self, part: float, index: int) -> System:
        epochs = round(part * self.recipe.fit.epochs)
        recipe, group = (
            Recipe.of(self.backbone, dict(self.config), {**self.fit, "epochs": epochs}),
            f"epochs x{part:.2f}",
        )
        return System(f"{group} {index}", "control", Train(recipe, EVERYBODY, seed_of(0, group, index)), group)

    def _trained(self, role: Role, index: int, erased: Share) -> System:
        return System(f"{role} {index}", role, Train(self.recipe, erased, seed_of(0, role, index)), role)


def _three(name: str, dataset: str, backbone: str, **more: Any) -> list[World]:
    regimes: tuple[Regime, ...] = ("interaction", "user", "item")
    return [World(f"{name} {regime}", dataset, backbone, regime, **more) for regime in regimes]


# Half a minute a system on one core, so the smallest pool that an audit of the quick profile can be drawn from.
_TIKTOK: dict[str, Any] = {
    "fit": {"epochs": 20}, "golds": 6, "originals": 3, "variants": 2, "cells": 8, "profiles": ("quick",),
}  # fmt: skip
WORLDS: tuple[World, ...] = (
    *_three("ml-100k bpr-mf", "ml-100k", "bpr-mf"),
    *_three("ml-100k lightgcn", "ml-100k", "lightgcn", **SMALL_LIGHTGCN),
    World("tiktok freedom interaction", "tiktok", "freedom", "interaction", **_TIKTOK),
    World("tiktok freedom item", "tiktok", "freedom", "item", **_TIKTOK),
)
