"""What must exist for an audit, as a recursive record with an address; making it, storing it, reading it back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numba
import numpy as np
import torch

from auditkit import stored
from auditkit.contracts import Backbone, Recipe, Recommender, Task, Unlearner
from auditkit.costs import Cost, measured
from auditkit.data.dataset import Bools, Dataset, Features, Interactions
from auditkit.deletion import NOBODY, DeletionRequest, Share
from auditkit.digests import canonical, digest_of
from auditkit.errors import StoreError
from auditkit.outside.source import Source
from auditkit.record import Role
from auditkit.sources import source_digest
from auditkit.store import Store

# Members trained in one call; what is lost when an audit is killed is at most one such group.
_GROUP = 8
Progress = Callable[[str, int, int], None]


def silent(text: str, done: int, total: int) -> None:
    """Progress that says nothing."""


@dataclass(frozen=True)
class Train:
    """Trained from scratch, by `recipe`, on the data without the units of `erased`."""

    recipe: Recipe
    erased: Share
    seed: int

    def seen(self, request: DeletionRequest) -> Bools:
        """Units ever trained on, bool [n_units]."""
        return ~request.units(self.erased)

    def held(self, request: DeletionRequest) -> Bools:
        """Units it is still entitled to, bool [n_units]."""
        return self.seen(request)


@dataclass(frozen=True)
class Unlearn:
    """`parent`, made to forget the units of `erased`. Parents may be unlearned themselves (a chain of requests)."""

    parent: Train | Unlearn
    unlearner: Unlearner
    erased: Share
    seed: int

    @property
    def recipe(self) -> Recipe:
        """How the first ancestor was trained."""
        return self.parent.recipe

    def seen(self, request: DeletionRequest) -> Bools:
        """Units ever trained on, bool [n_units]."""
        return self.parent.seen(request)

    def held(self, request: DeletionRequest) -> Bools:
        """Units it is still entitled to, bool [n_units]."""
        return self.parent.held(request) & ~request.units(self.erased)


@dataclass(frozen=True)
class Given:
    """Made by others. What it saw is what its role claims.

    Attributes:
        source: where it came from, for the report.
        digest: of its content where there is one to digest, else of the source.
        erased: the units that it claims not to hold.
    """

    source: str
    digest: str
    erased: Share = NOBODY

    def seen(self, request: DeletionRequest) -> Bools:
        """Units ever trained on, bool [n_units], as claimed."""
        return ~request.units(self.erased)

    def held(self, request: DeletionRequest) -> Bools:
        """Units it is still entitled to, bool [n_units], as claimed."""
        return self.seen(request)


Build = Train | Unlearn | Given


@dataclass(frozen=True)
class System:
    """One recommender as served, in a role.

    Attributes:
        name: unique within an audit.
        role: original, unlearned, gold, reference or control.
        build: how it comes to be.
        method: the unlearner's name, or the role.
        timed: it is built alone on the machine, so that its cost may be compared.
    """

    name: str
    role: Role
    build: Build
    method: str = ""
    timed: bool = False

    @property
    def procedure(self) -> str:
        """Digest of the recipe that systems share; of a system made elsewhere that of its content."""
        return self.build.digest if isinstance(self.build, Given) else self.build.recipe.digest


@dataclass(frozen=True, eq=False)
class Workshop:
    """All that building needs: data, request, store and device.

    Attributes:
        given: systems made elsewhere, by `Given.source`; each is opened when it is needed.
    """

    data: Dataset
    request: DeletionRequest
    store: Store
    device: str = "cpu"
    given: Mapping[str, Source] = field(default_factory=dict)

    def address(self, build: Build) -> str:
        """Where a build lies: digest of configuration, data, seed, engine and the sources that produce it."""
        if isinstance(build, Given):
            return digest_of("given", build.source, build.digest)
        if isinstance(build, Train):
            procedure = (build.recipe, source_digest(build.recipe.architecture()))
            trainer = build.recipe.trainer
            source = source_digest(type(trainer)) if trainer else ""
            return digest_of(
                "train", procedure, source, self._left(build.held(self.request)), build.seed, self._engine()
            )
        parent, source = self.address(build.parent), source_digest(type(build.unlearner))
        gone = build.parent.held(self.request) & ~build.held(self.request)
        return digest_of("unlearn", parent, build.unlearner, source, self._left(~gone), build.seed, self._engine())

    def _left(self, held: Bools) -> str:
        # A system that lost nothing does not depend on the request: originals are shared by all audits of the data.
        if held.all():
            return self.data.digest
        return digest_of(self.data.digest, self.request.digest, hashlib.sha256(np.packbits(held).tobytes()).hexdigest())

    def _engine(self) -> list[str]:
        return [torch.__version__, numba.__version__, np.__version__, torch.device(self.device).type]

    def without(self, held: Bools) -> Dataset:
        """The data without the units that are not held."""
        return self.request.erase(self.data, ~held)


def missing(systems: Sequence[System], shop: Workshop) -> list[System]:
    """Those whose build is not stored yet, each build once."""
    found: dict[str, System] = {}
    for system in systems:
        if not isinstance(system.build, Given):
            address = shop.address(system.build)
            if not shop.store.has(address):
                found.setdefault(address, system)
    return list(found.values())


def build(
    systems: Sequence[System], shop: Workshop, progress: Progress
) -> Iterator[tuple[System, Recommender, Cost | None]]:
    """Make what is missing, then yield every system as served, in the given order.

    Timed systems are built alone; the others of one recipe are trained many at once. Everything is read back from the
    store, so that a first and a resumed audit see the same bytes.
    """
    make(systems, shop, progress)
    for system in systems:
        yield system, *read(system.build, shop)


def make(systems: Sequence[System], shop: Workshop, progress: Progress) -> None:
    """Build what the store lacks."""
    parents = [System("", "original", s.build.parent) for s in systems if isinstance(s.build, Unlearn)]
    if parents:
        make(
            [p for p in parents if shop.address(p.build) not in {shop.address(s.build) for s in systems}],
            shop,
            progress,
        )
    todo = missing(systems, shop)
    alone = [s for s in todo if s.timed or isinstance(s.build, Unlearn) or s.build.recipe.trainer]  # type: ignore[union-attr]
    many = [s for s in todo if s not in alone]
    groups = [many[k : k + _GROUP] for k in range(0, len(many), _GROUP)]
    # Parents come before their children, whatever the order they are listed in.
    ordered = [*groups, *([s] for s in sorted(alone, key=lambda s: _generation(s.build)))]
    done = 0
    for group in ordered:
        progress(f"building {group[0].name}" + (f" .. {group[-1].name}" if len(group) > 1 else ""), done, len(todo))
        _make_group(group, shop)
        done += len(group)
    if todo:
        progress("systems built", len(todo), len(todo))


def _generation(one: Build) -> int:
    return 1 + _generation(one.parent) if isinstance(one, Unlearn) else 0


def _make_group(group: Sequence[System], shop: Workshop) -> None:
    with shop.store.locked(*(shop.address(s.build) for s in group)):
        left = missing(group, shop)
        by_recipe: dict[str, list[System]] = {}
        for system in left:
            by_recipe.setdefault(system.procedure, []).append(system)
        for systems in by_recipe.values():
            if isinstance(systems[0].build, Unlearn):
                _unlearn(systems[0], systems[0].build, shop)
            else:
                _train(systems, shop)


def _train(systems: Sequence[System], shop: Workshop) -> None:
    builds = [s.build for s in systems if isinstance(s.build, Train)]
    recipe = builds[0].recipe
    # Without the test part nothing can be selected on it.
    members = [(_untested(shop.without(b.held(shop.request))), b.seed) for b in builds]
    alone = len(systems) == 1 and systems[0].timed
    if alone:
        _warm_up(recipe, shop.device)
    with measured(shop.device, solo=alone) as cost:
        models = _trained(members, recipe, shop.device)
    each = cost().divided(len(models))
    for one, model in zip(builds, models, strict=True):
        stored.save(shop.store, shop.address(one), model, recipe, recipe.trainer, each, canonical(one))


def _trained(members: Sequence[tuple[Dataset, int]], recipe: Recipe, device: str) -> Sequence[Recommender]:
    if recipe.trainer is None:
        return recipe.architecture().fit(members, recipe, device=device)
    return [recipe.train(data, seed, device=device) for data, seed in members]


@cache
def _warmed(backbone: str, engine: str, device: str) -> None:
    """Compile kernels and load libraries on a toy, so that no system is billed for it.

    One gradient step follows the training: the first optimiser of a process loads half of torch, and else the first
    method under test would pay for that.
    """
    few = np.arange(8)
    features = {name: Features(np.eye(8, dtype=np.float32), np.ones(8, np.bool_)) for name in ("image", "text")}
    toy = Dataset("toy", 8, 8, Interactions(few, few), Interactions(few, (few + 1) % 8), features=features)
    recipe = Recipe.of(backbone, fit={"epochs": 1, "engine": engine})
    model = recipe.architecture().fit([(toy, 0)], recipe, device=device)[0]
    learned = list(model.trained.values())
    if learned:
        optimiser, ids = torch.optim.Adam(learned), torch.arange(4, device=model.device)
        model.loss(ids, ids, ids + 4, l2=0.0).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _warm_up(recipe: Recipe, device: str) -> None:
    _warmed(recipe.backbone, recipe.fit.engine, device)


def _unlearn(system: System, one: Unlearn, shop: Workshop) -> None:
    parent, _ = read(one.parent, shop)
    # What takes any parent serves what the trainer yields, so an output mask is none for it either.
    own = one.unlearner.trains or (one.unlearner.parents == "any" and _keeper(one.parent) is one.recipe.trainer)
    if not (isinstance(parent, Backbone) or own):
        raise StoreError(
            f"{system.name}: its parent is no backbone, so {one.unlearner.name} has no weights to start from"
        )
    held, gone = one.parent.held(shop.request), one.parent.held(shop.request) & ~one.held(shop.request)
    before = shop.without(held)
    task = Task(
        data=_untested(before), retain=_untested(shop.without(one.held(shop.request))),
        forget=shop.request.forget_set(before, gone), request=shop.request, units=gone, recipe=one.recipe,
        device=shop.device,
    )  # fmt: skip
    _warm_up(one.recipe, shop.device)
    rng = np.random.default_rng(one.seed)
    with measured(shop.device, solo=system.timed) as cost:
        served = one.unlearner.unlearn(parent, task, rng=rng)  # type: ignore[arg-type]
    stored.save(shop.store, shop.address(one), served, one.recipe, _keeper(one), cost(), canonical(one))


def _keeper(one: Train | Unlearn) -> Unlearner | None:
    """The method that says how a system is stored: one that takes any parent leaves that to the trainer."""
    if isinstance(one, Train) or one.unlearner.parents == "any":
        return one.recipe.trainer
    return one.unlearner


def _untested(data: Dataset) -> Dataset:
    return Dataset(data.name, data.n_users, data.n_items, data.train, data.valid, Interactions.empty(), data.features)


def read(one: Build, shop: Workshop) -> tuple[Recommender, Cost | None]:
    """A stored system, as served, with what it cost; systems made elsewhere have no cost."""
    if isinstance(one, Given):
        return shop.given[one.source].open(), None
    return stored.load(shop.store, shop.address(one), one.recipe, _keeper(one), shop.data, shop.device)
