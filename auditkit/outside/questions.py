"""The questions of an audit as files, for systems that only their owner can ask.

Which questions an audit asks is recorded: its probes are run against a recommender that notes what it is asked. The
battery's probes ask the same whatever they are answered, so the questions hold for every system of the audit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from auditkit.architecture import Side
from auditkit.builds import Given, System
from auditkit.commitment import pseudonym
from auditkit.contracts import Access, Probe
from auditkit.data.dataset import Ints
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.evidence import Case, fix_points, make_case, observe
from auditkit.outside.question_files import Questions, history_id, put
from auditkit.outside.source import Ids
from auditkit.requests import Names
from auditkit.usefulness import KS, measure_usefulness
from auditkit.writing import new_folder

if TYPE_CHECKING:
    from auditkit.plan import Plan

# What files of answers can grant.
ANSWERABLE = Access.LISTS | Access.SCORES | Access.NEW_USERS | Access.NEW_ITEMS
PSEUDONYMS = "pseudonyms.parquet"


class Recorder:
    """A recommender that notes what it is asked, and answers with scores that mean nothing.

    Attributes:
        asked: bool [n_users], whose scores were asked for.
        told: side -> histories of fresh users or items, in the order of asking.
    """

    def __init__(self, n_users: int, n_items: int) -> None:
        self.n_users, self.n_items = n_users, n_items
        self.asked = np.zeros(n_users, np.bool_)
        self.told: dict[Side, list[Ints]] = {"user": [], "item": []}

    def score(self, users: Ints, *, branch: str | None = None) -> torch.Tensor:
        """Finite scores, float64 [n_given_users, n_items], no two rows alike.

        Raises:
            NotApplicableError: a branch is asked for, which files cannot answer.
        """
        if branch is not None:
            raise NotApplicableError(f"files of answers have no branch {branch!r}")
        self.asked[users] = True
        return _meaningless(np.asarray(users), self.n_items)

    def fold_in(self, histories: Sequence[Ints], *, side: Side = "user") -> torch.Tensor:
        """As `score` of fresh users, or float64 [n_histories, n_users] of fresh items."""
        self.told[side] += [np.asarray(told, np.int64) for told in histories]
        return _meaningless(np.arange(len(histories)), self.n_items if side == "user" else self.n_users)


def _meaningless(rows: Ints, width: int) -> torch.Tensor:
    return torch.from_numpy(np.sin(np.outer(rows + 1.0, np.arange(1.0, width + 1))))


def answerable_probes(plan: Plan) -> list[Probe]:
    """The probes of an audit that files can answer."""
    return [probe for probe in plan.granted_probes if not probe.access & ~ANSWERABLE]


def record(plan: Plan, case: Case, recorder: Recorder) -> None:
    """Ask `recorder` all that an audit asks of a system made elsewhere."""
    fixed = fix_points(answerable_probes(plan), case, seed=plan.settings.seed)
    nobody = System("questions", "unlearned", Given("questions", ""))
    observe([(nobody, recorder)], fixed, case, seed=plan.settings.seed)
    measure_usefulness(recorder, case, plan.protocol)


def find_questions(plan: Plan, named: Ids, *, pseudonyms: bool = False) -> Questions:
    """The questions of an audit.

    Args:
        plan: the audit; its settings say what can be asked.
        named: the ids that the questions use.
        pseudonyms: these are pseudonyms, by whose order everything is then sorted, so that no order tells an id.

    Raises:
        ConfigurationError: neither scores nor lists can be asked, or fresh users and fresh items at once.
    """
    access = plan.settings.access
    if not access & (Access.SCORES | Access.LISTS):
        raise ConfigurationError("audit.access must hold scores or lists for files to answer; add one of them")
    case = make_case(plan.data, plan.request, seed=plan.settings.seed, tune=plan.settings.tune)
    recorder = Recorder(plan.data.n_users, plan.data.n_items)
    record(plan, case, recorder)
    sides: list[Side] = [side for side, told in recorder.told.items() if told]
    if len(sides) > 1:
        raise ConfigurationError("the attacks ask for fresh users and fresh items; name attacks that ask for one kind")
    side: Side = sides[0] if sides else "user"
    asked = np.flatnonzero(recorder.asked)
    listed = Access.SCORES not in access
    order: Callable[[list[str]], list[str]] = sorted if pseudonyms else list
    return Questions(
        "lists" if listed else "scores", tuple(order(named.own_users(asked).tolist())), _all_items(named, order),
        pseudonyms, side, _histories(recorder, side, named),
        tuple(order(named.own_users(np.arange(named.n_users)).tolist())) if side == "item" else (),
        *((_left_out(case, asked, named), _length(plan, case, asked)) if listed else ()),
    )  # fmt: skip


def _all_items(named: Ids, order: Callable[[list[str]], list[str]]) -> tuple[str, ...]:
    return tuple(order(named.own_items(np.arange(named.n_items)).tolist()))


def _histories(recorder: Recorder, side: Side, named: Ids) -> dict[str, tuple[str, ...]]:
    own = named.own_items if side == "user" else named.own_users
    told = [tuple(own(ids).tolist()) for ids in recorder.told[side]]
    # By digest, so that their order tells nothing either.
    return dict(sorted((history_id(side, ids), ids) for ids in told))


def _left_out(case: Case, asked: Ints, named: Ids) -> pd.DataFrame:
    """The retained training pairs of the asked users, which every list probe masks."""
    kept = case.retain.train
    mine = np.isin(kept.users, asked)
    pairs = {"user": named.own_users(kept.users[mine]), "item": named.own_items(kept.items[mine])}
    return pd.DataFrame(pairs, dtype=object).sort_values(["user", "item"], ignore_index=True)


def _length(plan: Plan, case: Case, asked: Ints) -> int:
    """Items that a list needs so that every probe and the utility find their K in it.

    Probes mask retained training pairs alone, the utility validation pairs, too: lists that leave out the former and
    have room for the latter serve both, to the last place. It may be more than there are items, as a probe's K may, and
    it is never more than the settings say that can be had.
    """
    longest = max([*KS, *(int(getattr(p, "k", 0)) for p in answerable_probes(plan) if Access.LISTS in p.access)])
    for part in plan.protocol.mask(case.retain)[1:]:
        longest += int(np.bincount(part.users, minlength=case.data.n_users)[asked].max(initial=0))
    return longest if plan.settings.list_length is None else min(longest, plan.settings.list_length)


def write_questions(plan: Plan, names: Names, out: Path, key: bytes | None = None) -> Questions:
    """Write the questions of an audit into a new folder, whole or not at all.

    Args:
        plan: the audit.
        names: the data files' own ids.
        out: folder; it must be new or empty, for answers belong to the questions that they were given to.
        key: secret, 32 bytes or more; the questions then name pseudonyms alone, and `pseudonyms.parquet`, which only
            its owner may read, says whose they are.

    Raises:
        ConfigurationError: the folder holds something, or the audit cannot be asked by files.
        StoreError: the folder cannot be written.
    """
    own = Ids(plan.data.n_users, plan.data.n_items, names)
    named = own if key is None else under_key(own, key)
    found = find_questions(plan, named, pseudonyms=key is not None)

    def write(folder: Path) -> None:
        put(found, folder)
        if key is not None:
            _pseudonym_table(own, named).to_parquet(folder / PSEUDONYMS, index=False)
            (folder / PSEUDONYMS).chmod(0o600)

    new_folder(out, write)
    return found


def under_key(own: Ids, key: bytes) -> Ids:
    """The same ids, named by pseudonyms of the data files' own."""
    every = {"user": own.own_users(np.arange(own.n_users)), "item": own.own_items(np.arange(own.n_items))}
    users, items = (np.array([pseudonym(key, kind, one) for one in ids.tolist()]) for kind, ids in every.items())
    return Ids(own.n_users, own.n_items, Names(users, items))


def _pseudonym_table(own: Ids, named: Ids) -> pd.DataFrame:
    users, items = np.arange(own.n_users), np.arange(own.n_items)
    table = pd.DataFrame({
        "kind": ["user"] * own.n_users + ["item"] * own.n_items,
        "pseudonym": [*named.own_users(users), *named.own_items(items)],
        "id": [*own.own_users(users), *own.own_items(items)],
    })  # fmt: skip
    return table.sort_values(["kind", "pseudonym"], ignore_index=True)
