"""The worlds that audits are resampled from: data, recommender, deletion request, and which systems are trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from auditkit.builds import System, Train, Unlearn
from auditkit.contracts import Recipe, Unlearner
from auditkit.data.dataset import Dataset
from auditkit.deletion import EVERYBODY, NOBODY, DeletionRequest, Regime, Selection, Share, select
from auditkit.plan import seed_of
from auditkit.record import Role
from auditkit.unlearners.controls import RowReinit, SignFlipped
from auditkit.unlearners.finetune import Finetune
from auditkit.unlearners.reverse_bpr import ReverseBPR
from benchmarks.calibration.systems import CatalogueDeletion, Downdate
from benchmarks.common import SMALL_LIGHTGCN, data_folder, read_implicit

RUNGS = (0.02, 0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.60, 0.80)
# Cells of the grid of reference doses: the 32 complementary pairs of the largest profile; smaller ones take every
# second or fourth cell, at random within.
CELLS = 32
OTHER_EPOCHS = (2 / 3, 5 / 6, 7 / 6, 3 / 2)
PASSES = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class World:
    """One request on one data set and recommender, with the sizes of its pools.

    Attributes:
        name: of the files and rows.
        dataset: folder under the data root, or `synthetic`.
        backbone, config, fit: recipe.
        regime, how, count, share: what is forgotten, how it is chosen, count or share of the candidates.
        draw: seed of the request.
        golds, originals: pool sizes.
        pairs: complementary pairs of references in each of the 32 dose cells.
        per_rung: systems that hold a known share, for each of the nine rungs.
        per_low_rung: the same for the three rungs up to .1, where coverage of a dose is asked for by itself.
        variants: honest systems of each kind (other epochs, jittered epochs, catalogue deletion).
        cheats: parents that dishonest unlearners start from.
        audits: resampled audits of each profile.
    """

    name: str
    dataset: str
    regime: Regime
    backbone: str = "bpr-mf"
    config: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    how: Selection = "random"
    count: int | None = None
    share: float | None = None
    draw: int = 0
    golds: int = 160
    originals: int = 10
    pairs: int = 2
    per_rung: int = 12
    per_low_rung: int = 12
    variants: int = 8
    cheats: int = 6
    audits: int = 200

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return self.name.replace(" ", "-")

    @property
    def recipe(self) -> Recipe:
        """As the systems of the procedure are trained."""
        return Recipe.of(self.backbone, dict(self.config), dict(self.fit))

    def data(self, root: str | None = None) -> Dataset:
        """The data set."""
        if self.dataset == "synthetic":
            return Dataset.synthetic(seed=0)
        return read_implicit(data_folder(root and f"{root}/{self.dataset}", self.dataset))

    def request(self, data: Dataset) -> DeletionRequest:
        """What is forgotten."""
        return select(data, self.regime, self.how, share=self.share, count=self.count, seed=self.draw)


def _three(name: str, dataset: str, share: float = 0.05, **more: Any) -> list[World]:
    regimes: tuple[Regime, ...] = ("interaction", "user", "item")
    return [World(f"{name} {regime}", dataset, regime, share=share, **more) for regime in regimes]


_SMALL: dict[str, Any] = {"golds": 100, "pairs": 1, "per_rung": 4, "variants": 4, "cheats": 2, "audits": 100}
_EASE: dict[str, Any] = {
    "golds": 24,
    "originals": 2,
    "pairs": 1,
    "per_rung": 4,
    "variants": 2,
    "cheats": 1,
    "audits": 100,
}
_LIGHTGCN: dict[str, Any] = {
    **_SMALL, "originals": 4, "per_rung": 2, "per_low_rung": 6, "variants": 3, "cheats": 1,
    **SMALL_LIGHTGCN,
}  # fmt: skip
WORLDS: tuple[World, ...] = (
    *_three("ml-100k bpr-mf", "ml-100k"),
    World("ml-100k bpr-mf 200 interactions", "ml-100k", "interaction", count=200, **_SMALL),
    World("ml-100k bpr-mf 20 interactions", "ml-100k", "interaction", count=20, **_SMALL),
    World("ml-100k bpr-mf one user", "ml-100k", "user", count=1, **_SMALL),
    World("ml-100k bpr-mf most active user", "ml-100k", "user", how="core", count=1, **_SMALL),
    *_three("synthetic bpr-mf", "synthetic", **_SMALL),
    World("tiktok bpr-mf interaction", "tiktok", "interaction", share=0.05, **_SMALL),
    *_three("tiktok bpr-mf", "tiktok", 0.02, **_SMALL)[1:],
    World("ml-100k ease interaction", "ml-100k", "interaction", backbone="ease", share=0.05, **_EASE),
    *_three("ml-100k lightgcn", "ml-100k", backbone="lightgcn", **_LIGHTGCN),
)


def _other(world: World, epochs: int) -> Recipe:
    return Recipe.of(world.backbone, dict(world.config), {**world.fit, "epochs": epochs})


def _golds(world: World) -> Iterator[System]:
    for k in range(world.golds):
        yield _trained("gold", "gold", world.recipe, EVERYBODY, k)


def _trained(group: str, role: Role, recipe: Recipe, erased: Share, index: int) -> System:
    seed = seed_of(0, group, index)
    return System(f"{group} {index}", role, Train(recipe, erased, seed), group)


def _references(world: World) -> Iterator[System]:
    for k in range(world.pairs):
        for cell in range(CELLS):
            cut, order = (2 * cell + 1) / (2 * CELLS), seed_of(k, "share", cell)
            for half, share in enumerate((Share(0.0, cut, order), Share(cut, 1.0, order))):
                yield _trained("reference", "reference", world.recipe, share, (k * CELLS + cell) * 2 + half)


def _rungs(world: World) -> Iterator[System]:
    for dose in RUNGS:
        for k in range(world.per_low_rung if dose <= 0.1 else world.per_rung):
            group = f"dose {dose:g}"
            yield _trained(group, "control", world.recipe, Share(0.0, 1 - dose, seed_of(1, group, k)), k)


def _honest(world: World) -> Iterator[System]:
    if world.backbone == "ease":
        return
    usual = world.recipe.fit.epochs
    for part in OTHER_EPOCHS:
        for k in range(world.variants):
            yield _trained(f"epochs x{part:.2f}", "control", _other(world, round(part * usual)), EVERYBODY, k)
    for k in range(2 * world.variants):
        part = 0.75 + 0.5 * (k + 0.5) / (2 * world.variants)
        yield _trained("epochs jittered", "control", _other(world, round(part * usual)), EVERYBODY, k)


def _unlearned(world: World, group: str, unlearner: Unlearner, parents: int) -> Iterator[System]:
    for k in range(parents):
        parent = Train(world.recipe, NOBODY, seed_of(0, "original", k))
        yield System(f"{group} {k}", "unlearned", Unlearn(parent, unlearner, EVERYBODY, seed_of(0, group, k)), group)


def _methods(world: World) -> Iterator[System]:
    if world.backbone == "ease":
        yield from _unlearned(world, "downdate", Downdate(), world.variants)
        return
    for passes in PASSES:
        yield from _unlearned(
            world, f"reverse-bpr {passes}", ReverseBPR(passes, learning_rate=2e-3, forget_batch=512), world.cheats
        )
    yield from _unlearned(world, "sign-flipped", SignFlipped(), world.cheats)
    yield from _unlearned(world, "row-reinit", RowReinit(), world.cheats)
    yield from _unlearned(world, "finetune 10", Finetune(epochs=10), world.cheats)
    if world.regime == "item" and world.backbone == "bpr-mf":
        yield from _unlearned(world, "catalogue-deletion", CatalogueDeletion(), world.variants)


def pool(world: World) -> list[System]:
    """Every system of the world, cheap groups first; names are unique, `method` is the group."""
    originals = [_trained("original", "original", world.recipe, NOBODY, k) for k in range(world.originals)]
    return [
        *originals, *_golds(world), *_references(world), *_rungs(world), *_honest(world), *_methods(world)
    ]  # fmt: skip


def shrunk(world: World) -> World:
    """The same world with few, hardly trained systems: enough to try the machinery."""
    return replace(
        world, golds=24, originals=3, pairs=1, per_rung=1, per_low_rung=1, variants=1, cheats=1, fit={"epochs": 6}
    )
