"""The parts of the attack catalogue's benchmark: which systems an audit draws, and which attacks suffice."""

from __future__ import annotations

import numpy as np
import pytest

from auditkit.attacks.divergence import Divergence
from auditkit.attacks.lira import Lira
from auditkit.deletion import NOBODY, DeletionRequest
from auditkit.yardstick import calibrate
from benchmarks.attack_catalogue.caught import smallest_sets
from benchmarks.attack_catalogue.measure import attainable, label
from benchmarks.attack_catalogue.pools import drawn
from benchmarks.attack_catalogue.worlds import WORLDS, World

from .gaussian import Linear, Raw, rules
from .gaussian import World as Drawn


def request_of(n: int) -> DeletionRequest:
    return DeletionRequest("interaction", np.arange(n), np.zeros(n, np.int64))


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.slug)
def test_a_world_has_what_its_profiles_draw(world: World) -> None:
    from auditkit.plan import SIZES

    systems = world.systems()
    assert len({s.name for s in systems}) == len(systems)
    golds = [s for s in systems if s.role == "gold"]
    references = [s for s in systems if s.role == "reference"]
    largest = [max(SIZES[p][k] for p in world.profiles) for k in (0, 1)]
    assert len(golds) >= largest[0] + 2, "some Golds must be left that were not drawn"
    assert len(references) >= largest[1]
    assert sum(s.build.held(request_of(10)).all() for s in systems if s.role == "original") > 2
    held = np.stack([s.build.held(request_of(100)) for s in references]).reshape(-1, 2, 100)
    assert (held.sum(1) == 1).all(), "references are complementary pairs"
    assert NOBODY.lo == NOBODY.hi


def test_a_drawn_background_has_a_pair_from_every_stratum_and_leaves_golds_out() -> None:
    evidence = Drawn(n_units=30, references=16, golds=8, originals=4).background()
    background, golds, originals = drawn(evidence, 4, 8, np.random.default_rng(0))
    roles = [s.role for s in background.systems]
    assert [roles.count(r) for r in ("original", "gold", "reference")] == [2, 4, 8]
    names = {s.name for s in background.systems}
    assert len(names) == len(background.systems)
    assert len(golds) == 4
    assert len(originals) == 2
    assert not names & {evidence.systems[k].name for k in (*golds, *originals)}
    picked = [int(s.name.split("-")[1]) for s in background.systems if s.role == "reference"]
    assert [k // 4 for k in picked[::2]] == [0, 1, 2, 3]
    assert all(b == a + 1 for a, b in zip(picked[::2], picked[1::2], strict=True))


def test_an_attack_without_a_pattern_has_a_margin_of_its_level() -> None:
    world = Drawn(golds=8, strength=3.0)
    background = world.background()
    linear, raw = (calibrate(attack, background, rules(0.1)) for attack in (Linear(), Raw()))
    assert attainable(linear) == linear.attainable
    assert raw.attainable is None
    assert 0 < attainable(raw) < 1


def test_labels_tell_variants_apart() -> None:
    assert label(Lira()) == "lira"
    assert label(Lira("softmax")) == "lira (softmax)"
    assert label(Divergence("cka")) == "divergence (cka)"


def test_the_smallest_sets_catch_everything() -> None:
    caught = {"no-op": {"a", "b"}, "mask": {"b"}, "row-reinit": {"c"}}
    assert smallest_sets(caught) == [("b", "c")]
    assert smallest_sets({"no-op": {"a", "b"}}) == [("a",), ("b",)]
    assert smallest_sets({"no-op": set(), "mask": {"a"}}) == []
