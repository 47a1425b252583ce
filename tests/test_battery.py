from __future__ import annotations

import pytest

from auditkit.attacks.divergence import Divergence
from auditkit.attacks.lira import Lira
from auditkit.attacks.listed import Listed
from auditkit.battery import PRIMARIES, battery_problems, choose_battery, in_order, longest_list, primary_of
from auditkit.contracts import Access
from auditkit.deletion import Regime
from auditkit.plugins import attacks

_EVERYTHING = Access.LISTS | Access.SCORES | Access.NEW_USERS | Access.NEW_ITEMS | Access.WEIGHTS


@pytest.mark.parametrize("regime", PRIMARIES)
def test_the_first_whose_access_is_granted_is_the_primary(regime: Regime) -> None:
    first = PRIMARIES[regime][0]
    assert primary_of(regime, _EVERYTHING) == first
    for name in PRIMARIES[regime]:
        attack = attacks()[name].variants()[0]
        assert regime in attack.primary_for
        before = PRIMARIES[regime][: PRIMARIES[regime].index(name)]
        if not any(attacks()[other].variants()[0].access in attack.access for other in before):
            assert primary_of(regime, attack.access) == name


@pytest.mark.parametrize("regime", PRIMARIES)
def test_without_access_to_any_the_first_is_named_so_that_the_audit_says_what_it_lacks(regime: Regime) -> None:
    assert primary_of(regime, Access(0)) == PRIMARIES[regime][0]


def test_nothing_said_is_the_default_battery_primary_first() -> None:
    chosen = choose_battery(None, "fold-in")
    assert chosen[0].name == "fold-in"
    assert chosen == choose_battery(("default",), "fold-in")
    assert set(chosen) == {attack for one in attacks().values() for attack in one.battery()}


def test_named_attacks_run_in_all_their_variants_beside_the_primary() -> None:
    chosen = choose_battery(("divergence",), "lira-linear")
    assert [a.name for a in chosen] == ["lira-linear", *["divergence"] * len(Divergence.variants())]


def test_of_a_primary_with_several_variants_one_decides() -> None:
    for named in (None, ("listed",), ("all",)):
        chosen = choose_battery(named, "listed")
        assert [a for a in chosen if a.name == "listed"] == [Listed.variants()[0]]
        assert chosen[0] == Listed.variants()[0]
    assert [a for a in choose_battery(("listed",), "lira-linear") if a.name == "listed"] == list(Listed.variants())
    assert in_order([Lira(), Listed(k=100), Listed()], "listed") == [Listed(k=100), Lira()]


def test_nothing_runs_twice() -> None:
    chosen = choose_battery(("default", "lira", "lira"), "lira-linear")
    assert len(set(chosen)) == len(chosen)
    assert Lira() in chosen


def test_all_is_every_variant_of_every_attack() -> None:
    assert set(choose_battery(("all",), "fold-in")) == {a for one in attacks().values() for a in one.variants()}


def test_unknown_names_are_named_with_what_there_is() -> None:
    assert battery_problems(None) == battery_problems(("default", "all", "lira")) == []
    (problem,) = battery_problems(("lira", "mind-reading", "esp"))
    assert "'mind-reading', 'esp' not known" in problem
    assert "fold-in" in problem


def test_short_lists_are_read_by_attacks_that_ask_for_no_longer_ones() -> None:
    assert longest_list(choose_battery(None, "listed")[0]) == 100
    short = choose_battery(None, "listed", 20)
    assert (short[0].name, longest_list(short[0])) == ("listed", 20)
    assert max(map(longest_list, short)) <= 20
    users = choose_battery(None, "fold-in-lists", 20)[0]
    assert (users.name, longest_list(users)) == ("fold-in-lists", 20)
    # Nothing of it asks for so few: it stays first, and is then not answered.
    assert longest_list(choose_battery(None, "fold-in-lists", 10)[0]) > 10
