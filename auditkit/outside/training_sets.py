"""The training sets of a yardstick that its owner trains: which pairs each of its systems may see."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from auditkit.builds import System
from auditkit.data.dataset import Bools, Dataset, Interactions
from auditkit.outside.source import Ids
from auditkit.plan import MARGINS, SIZES, Plan, background_systems, seed_of
from auditkit.writing import new_folder

PAIRS, SYSTEMS, WITHDRAWN, README = "training-sets.parquet", "systems.csv", "withdrawn.parquet", "README.txt"
USERS, ITEMS = "users.parquet", "items.parquet"


def slug(name: str) -> str:
    """A system's name as that of a file or a column.

    What is no ASCII letter, digit, dot, hyphen or underscore becomes a hyphen, and neither end is a dot or a hyphen.
    Every place that writes or looks for a file of a system takes its name from here.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")


@dataclass(frozen=True, eq=False)
class TrainingSets:
    """What the owner of a system is handed, to train a yardstick from.

    Attributes:
        pairs: one row per training and validation pair: user, item (the data files' own ids, as text), rating and time
            where the data has them, part (`train` or `valid`), and per system whether the pair is in its set.
        systems: one row per system: system, role, seed, n_train, n_valid, export.
        users, items: all ids of the data set, in its order; those without training pairs as well.
        withdrawn: one row per item and modality that the request withdraws: item, modality, and per system whether it
            still has these features; None where the request withdraws none.
        readme: the same in words.
    """

    pairs: pd.DataFrame
    systems: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame
    withdrawn: pd.DataFrame | None
    readme: str


def training_sets(plan: Plan, ids: Ids) -> TrainingSets:
    """The exact sets that originals, Golds, references and controls of `plan` must be trained on.

    Args:
        plan: data, request and settings; nothing is trained, and no recipe is asked for.
        ids: the data files' own ids.
    """
    data, systems = plan.data, background_systems(plan)
    left = {slug(s.name): plan.request.erase(data, ~s.build.held(plan.request)) for s in systems}
    parts = {"train": data.train, "valid": data.valid}
    kept = {
        name: {part: _within(pairs, getattr(one, part), data.n_items) for part, pairs in parts.items()}
        for name, one in left.items()
    }
    tables = [
        pd.concat(
            [_listed(pairs, part, ids), pd.DataFrame({name: found[part] for name, found in kept.items()})], axis=1
        )
        for part, pairs in parts.items()
        if len(pairs) or part == "train"
    ]
    return TrainingSets(
        pd.concat(tables, ignore_index=True),
        _summary(plan, systems, left),
        pd.DataFrame({"user": ids.own_users(np.arange(data.n_users))}),
        pd.DataFrame({"item": ids.own_items(np.arange(data.n_items))}),
        _withdrawn(plan, left, ids),
        _readme(plan),
    )


def _within(pairs: Interactions, left: Interactions, n_items: int) -> Bools:
    return np.isin(pairs.codes(n_items), left.codes(n_items))


def _listed(pairs: Interactions, part: str, ids: Ids) -> pd.DataFrame:
    columns = {"user": ids.own_users(pairs.users), "item": ids.own_items(pairs.items)}
    extra = {"rating": pairs.ratings, "time": pairs.times}
    return pd.DataFrame({**columns, **{k: v for k, v in extra.items() if v is not None}, "part": part})


def _summary(plan: Plan, systems: list[System], left: dict[str, Dataset]) -> pd.DataFrame:
    """Seeds are those of an audit that trains the yardstick itself; they need only differ from one another."""
    rows, seen = [], Counter[str]()
    for system in systems:
        name = slug(system.name)
        seed = seed_of(plan.settings.seed, system.method, seen[system.method])
        seen[system.method] += 1
        rows.append([name, system.role, seed, len(left[name].train), len(left[name].valid), f"exports/{name}"])
    return pd.DataFrame(rows, columns=["system", "role", "seed", "n_train", "n_valid", "export"])


def _withdrawn(plan: Plan, left: dict[str, Dataset], ids: Ids) -> pd.DataFrame | None:
    items, found = plan.request.items, []
    for modality in plan.request.modalities:
        had = items[plan.data.features[modality].present[items]]
        still = {name: one.features[modality].present[had] for name, one in left.items()}
        named = pd.DataFrame({"item": ids.own_items(had), "modality": modality})
        found.append(pd.concat([named, pd.DataFrame(still)], axis=1))
    return pd.concat(found, ignore_index=True) if found else None


def write(sets: TrainingSets, out: Path) -> None:
    """Write the folder, whole or not at all.

    Raises:
        ConfigurationError: it is there already and holds something.
        StoreError: it cannot be written.
    """
    new_folder(out, lambda folder: _write_files(sets, folder))


def _write_files(sets: TrainingSets, folder: Path) -> None:
    tables = {PAIRS: sets.pairs, USERS: sets.users, ITEMS: sets.items, WITHDRAWN: sets.withdrawn}
    for name, table in tables.items():
        if table is not None:
            table.to_parquet(folder / name, index=False)
    sets.systems.to_csv(folder / SYSTEMS, index=False, lineterminator="\n")
    (folder / README).write_text(sets.readme, encoding="utf-8")


def sizes(plan: Plan) -> pd.DataFrame:
    """What each profile asks for and which margin it has by default, and last what `plan` asks for.

    Returns:
        Columns profile, golds, references, trainings (with originals and controls), margin (on the dose scale).
    """
    regime, s = plan.request.regime, plan.settings
    counts = [(name, *SIZES[name], margin) for name, margin in zip(SIZES, MARGINS[regime], strict=True)]
    counts.append(("this plan", s.golds or 0, s.references or 0, s.margin or 0.0))
    # Controls are one more Gold and one half-erased system.
    rows = [(name, g, r, s.originals + g + r + 2, margin) for name, g, r, margin in counts]
    return pd.DataFrame(rows, columns=["profile", "golds", "references", "trainings", "margin"])


def _readme(plan: Plan) -> str:
    request = plan.request
    asked = f"{request.n_units} units, regime {request.regime}, {request.selection}"
    withdrawn = _WITHDRAWN_TEXT if request.modalities else ""
    return _README.format(asked=asked, withdrawn=withdrawn)


_WITHDRAWN_TEXT = f"""
{WITHDRAWN} lists the item features that the request withdraws, one row per item and modality. True in a system's
column means that this system is trained, and served, with these features; false means without them.
"""

_README = f"""\
Training sets of a yardstick
============================

The request: {{asked}}.

An audit compares the system under test with systems that are known to have forgotten, or known to remember. These are
the sets to train them on. Train one system per row of {SYSTEMS}, each on its own set and with its own seed, and export
each to the place in the column `export`.

Files
-----
{PAIRS}  one row per pair: user, item (the ids of your data files, as text), part, and one column per system.
                       True: the pair is in that system's set. Rows with part `train` are trained on; rows with part
                       `valid` are only for early stopping, and may be left unused if they are so for every system.
{SYSTEMS}            what to train: system, role, seed, number of pairs, where to write the export.
{USERS}, {ITEMS}  every user and item of the audited data in its order, those without training pairs as well.
                       Tables exported in this order need no id files.
{{withdrawn}}
Systems
-------
original-*    trained on everything: what remembers the whole request.
gold-*        trained from scratch without anything that the request names: what never knew it.
reference-*   trained without a known random part of the request: the rungs between the two.
control-gold  one more Gold that is audited like a system under test. If it is found guilty, the audit is invalid.
half-erased   trained without a random half of the request. If it is not found, the audit has no power.

Rules
-----
1. One procedure for all: the same code, hyper-parameters, number of epochs or stopping rule, and machine settings, as
   for the original of the system under test. Only the training set and the seed differ.
2. Every system has its own seed, which decides initial values, order and sampled negatives. Take those of {SYSTEMS}, or
   your own if no two are alike.
3. Train from scratch. Never start from another system, and never share a cache, a graph or a table of co-occurrences
   that was made from more than a system's own set.
4. Tune nothing on the forgotten pairs, and choose no hyper-parameter by how well a Gold forgets.
5. Serve each system over its own set. Histories, graphs and popularity counts are training data, too.
6. Test pairs are in no set. Do not add them.
7. Leave out no system because its result looks odd: the scatter of honest systems is what the audit measures.
"""
