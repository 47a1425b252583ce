"""Which attacks an audit runs, and which of them is the primary one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import or_

from auditkit.contracts import Access, Attack
from auditkit.deletion import Regime
from auditkit.plugins import attacks

# The attacks that alone can PASS a system, by preference: the first whose access is granted is the primary one. Rows of
# erased users or items read clean where fold-in still finds them, so nothing that reads rows is among theirs.
PRIMARIES: Mapping[Regime, tuple[str, ...]] = {
    "interaction": ("lira-linear", "listed"),
    "user": ("fold-in", "fold-in-lists"),
    "item": ("fold-in",),
    "modality": ("lira-linear",),
}
# Names that stand for several attacks.
DEFAULT, ALL = "default", "all"


def primary_of(regime: Regime, access: Access) -> str:
    """The primary attack of a regime for an auditor with this access.

    Where no candidate's access is granted it is the first: the audit then says what it lacks, and nothing can PASS.
    """
    candidates = PRIMARIES[regime]
    granted = [name for name in candidates if not attacks()[name].variants()[0].access_in(regime) & ~access]
    return (granted or list(candidates))[0]


def battery_problems(named: Sequence[str] | None) -> list[str]:
    """Names that are no attack."""
    unknown = [name for name in named or () if name not in attacks() and name not in (DEFAULT, ALL)]
    known = ", ".join([DEFAULT, ALL, *attacks()])
    return [f"attacks: {', '.join(map(repr, unknown))} not known; choose from: {known}"] if unknown else []


def choose_battery(named: Sequence[str] | None, primary: str, list_length: int | None = None) -> list[Attack]:
    """The attacks that run, primary first; each once.

    Args:
        named: names of attacks, which run in all their variants, `default` or `all`; None is `default`.
        primary: name of the attack that must be among them, as its first variant alone.
        list_length: items in the lists that can be had; what asks for longer ones is left out, unless nothing else of
            the primary is there. None: any length can be had.
    """
    found: list[Attack] = []
    for name in (primary, *(named or (DEFAULT,))):
        found += _instances(name)
    if list_length is not None:
        short = [attack for attack in found if longest_list(attack) <= list_length]
        found = short if any(attack.name == primary for attack in short) else [*_instances(primary)[:1], *short]
    return in_order(found, primary)


def longest_list(attack: Attack) -> int:
    """Items in the longest list that it asks for, from its probes' `k`; 0 where it asks for none."""
    return max((int(getattr(p, "k", 0)) for p in attack.probes if Access.LISTS in p.access), default=0)


def in_order(battery: Sequence[Attack], primary: str) -> list[Attack]:
    """Attacks, each once, the primary first; of several instances of the primary only the first, for one decides."""
    known = list(dict.fromkeys(battery))
    deciding = [attack for attack in known if attack.name == primary][:1]
    return [*deciding, *(attack for attack in known if attack.name != primary)]


def _instances(name: str) -> list[Attack]:
    if name == DEFAULT:
        return [attack for one in attacks().values() for attack in one.battery()]
    if name == ALL:
        return [attack for one in attacks().values() for attack in one.variants()]
    return list(attacks()[name].variants())


def access_words(access: Access) -> str:
    """As configurations spell it: `lists, new-users`."""
    return ", ".join(str(flag.name).lower().replace("_", "-") for flag in Access if flag in access)


def access_of(names: Iterable[str]) -> Access:
    """The inverse of `access_words`, from a list of names."""
    return reduce(or_, (Access[name.upper().replace("-", "_")] for name in names), Access(0))


def standing(attack: type[Attack]) -> str:
    """What an attack weighs in a verdict: where it may be primary, where it may FAIL a system, or that it is a note."""
    if attack.release:
        return "judged apart"
    others = sorted(attack.fails_in - attack.primary_for)
    parts = [f"primary for {', '.join(sorted(attack.primary_for))}"] if attack.primary_for else []
    parts += [f"may FAIL {', '.join(others)}"] if others else []
    return "; ".join(parts) or "a note"
