"""Which attacks an audit runs, and which of them is the primary one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditkit.contracts import Access, Attack
from auditkit.plugins import attacks

# The attacks that alone can PASS a system, by preference: the first whose access is granted is the primary one. Rows of
# erased users or items read clean where fold-in still finds them, so nothing that reads rows is among theirs.
PRIMARIES: Mapping[str, tuple[str, ...]] = {
    "interaction": ("lira-linear", "listed"),
    "user": ("fold-in", "fold-in-lists"),
    "item": ("fold-in",),
    "modality": ("lira-linear",),
}
# Names that stand for several attacks.
DEFAULT, ALL = "default", "all"


def primary_of(regime: str, access: Access) -> str:
    """The primary attack of a regime for an auditor with this access.

    Where no candidate's access is granted it is the first: the audit then says what it lacks, and nothing can PASS.
    """
    candidates = PRIMARIES[regime]
    granted = [name for name in candidates if not attacks()[name].variants()[0].access & ~access]
    return (granted or list(candidates))[0]


def battery_problems(named: Sequence[str] | None) -> list[str]:
    """Names that are no attack."""
    unknown = [name for name in named or () if name not in attacks() and name not in (DEFAULT, ALL)]
    known = ", ".join([DEFAULT, ALL, *attacks()])
    return [f"attacks: {', '.join(map(repr, unknown))} not known; choose from: {known}"] if unknown else []


def choose_battery(named: Sequence[str] | None, primary: str) -> list[Attack]:
    """The attacks that run, primary first; each once.

    Args:
        named: names of attacks, which run in all their variants, `default` or `all`; None is `default`.
        primary: name of the attack that must be among them, as its first variant alone.
    """
    found: list[Attack] = []
    for name in (primary, *(named or (DEFAULT,))):
        found += _instances(name)
    return in_order(found, primary)


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


def standing(attack: type[Attack]) -> str:
    """What an attack weighs in a verdict: where it may be primary, where it may FAIL a system, or that it is a note."""
    if attack.release:
        return "judged apart"
    others = sorted(attack.fails_in - attack.primary_for)
    parts = [f"primary for {', '.join(sorted(attack.primary_for))}"] if attack.primary_for else []
    parts += [f"may FAIL {', '.join(others)}"] if others else []
    return "; ".join(parts) or "a note"
