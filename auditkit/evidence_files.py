"""The evidence of an audit in one file: what every verdict follows from, so that others can judge it again.

The file is a compressed `.npz` of plain arrays: nothing in it is ever executed (no pickle). It holds answers about
single units with their ids, so it is as confidential as the per-unit table, and no published copy of a report has it.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from auditkit.builds import Given, System
from auditkit.contracts import Access, Attack, Probe
from auditkit.data.dataset import Floats
from auditkit.digests import canonical
from auditkit.errors import DataError
from auditkit.evidence import Evidence, Reading
from auditkit.plan import Settings
from auditkit.plugins import attacks, resolve_options
from auditkit.record import Control
from auditkit.serving import Serving
from auditkit.writing import EVIDENCE as EVIDENCE
from auditkit.writing import replace_file
from auditkit.yardstick import Rules

VERSION = 1
_LEVEL = 3

Arrays = dict[str, np.ndarray[Any, Any]]
_BROKEN = (
    KeyError, ValueError, TypeError, IndexError, AttributeError, EOFError, OSError, MemoryError, RecursionError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class KeptMethod:
    """What was observed of one method.

    Attributes:
        name: as the report calls it.
        evidence: of its runs.
        serving: what each run is served over.
        learned: of systems that the method unlearned as references; None where no attack asks for them.
    """

    name: str
    evidence: Evidence
    serving: tuple[Serving, ...]
    learned: Evidence | None = None


@dataclass(frozen=True, eq=False)
class Kept:
    """All that the verdicts of an audit follow from. Nothing in it says how a system was built.

    Attributes:
        battery: the attacks, in the audit's order.
        rules: what was judged by.
        settings: seed and tuned share; the rest is as it is by default.
        background: of originals, Golds, references and controls.
        methods: under test.
        yardstick: the check of the yardstick itself (whether it imitates the owner's original, or that there is none),
            as the audit found it, for that original is not kept. None where there was no such check.
    """

    battery: tuple[Attack, ...]
    rules: Rules
    settings: Settings
    background: Evidence
    methods: tuple[KeptMethod, ...]
    yardstick: Control | None = None

    @property
    def parts(self) -> dict[str, Evidence]:
        """Everything observed, by its place in the file."""
        found = {"background": self.background}
        for place, method in enumerate(self.methods):
            found[f"method-{place}"] = method.evidence
            if method.learned is not None:
                found[f"learned-{place}"] = method.learned
        return found


def write_evidence(kept: Kept, path: Path) -> None:
    """Write the file; the same evidence gives the same bytes.

    Raises:
        StoreError: the folder cannot be written.
    """
    probes = list(dict.fromkeys(probe for part in kept.parts.values() for probe in part.readings))
    text = json.dumps(_about(kept, probes), allow_nan=False)
    arrays: Arrays = {"about": np.frombuffer(text.encode(), np.uint8)}
    arrays |= _columns("units", kept.background.units)
    for name, part in kept.parts.items():
        arrays |= {f"{name}/seen": part.seen, f"{name}/held": part.held}
        for place, probe in enumerate(probes):
            if probe in part.readings:
                reading = part.readings[probe]
                arrays |= _columns(f"points/{place}", reading.points)
                arrays |= {f"{name}/{place}/{s}": _compact(values) for s, values in reading.values.items()}

    replace_file(path, lambda scratch: _pack(arrays, scratch))


def _pack(arrays: Arrays, path: Path) -> None:
    # What `numpy.savez_compressed` writes, at a third of its time: digits of scores can hardly be compressed.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            # A `ZipInfo` of its own has no date of writing.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED, _LEVEL)


def _compact(values: Floats) -> np.ndarray[Any, Any]:
    """Ids and counts as whole numbers of half the size; all else as it is."""
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int32)
    return whole if np.array_equal(whole, values) else values


def _about(kept: Kept, probes: Sequence[Probe]) -> dict[str, Any]:
    return {
        "version": VERSION, "rules": {**asdict(kept.rules), "allowed": canonical(kept.rules.allowed)},
        "yardstick": None if kept.yardstick is None else kept.yardstick.model_dump(mode="json"),
        "seed": kept.settings.seed, "tune": kept.settings.tune, "battery": [canonical(a) for a in kept.battery],
        "probes": [canonical(probe) for probe in probes],
        "systems": {name: [[s.name, s.role, s.method] for s in part.systems] for name, part in kept.parts.items()},
        "methods": [{"name": m.name, "serving": [asdict(s) for s in m.serving]} for m in kept.methods],
    }  # fmt: skip


def _columns(head: str, table: pd.DataFrame) -> Arrays:
    """Its columns as plain arrays: numbers as they are, everything else as text."""
    found = {f"{head}/{name}": np.asarray(table[name]) for name in table.columns}
    return {name: a if a.dtype.kind in "biuf" else a.astype(np.str_) for name, a in found.items()}


def read_evidence(path: Path) -> Kept:
    """Read the file. Attacks are the installed ones of the names in it.

    Raises:
        DataError: it is no evidence of an audit, or of another version.
        PluginError: an attack is not installed; says which.
        ConfigurationError: an attack has not the parameters that are named.
    """
    try:
        arrays = _arrays(path)
        about = json.loads(arrays["about"].tobytes())
        if about["version"] != VERSION:
            _refuse(path, f"it is of version {about['version']}, this auditkit reads {VERSION}")
        battery = tuple(_attack(path, described) for described in about["battery"])
        return _kept(about, arrays, battery)
    except _BROKEN as error:
        _refuse(path, f"{type(error).__name__}: {error}")


def _refuse(path: Path, why: str) -> NoReturn:
    raise DataError(f"{path} is no evidence of an audit: {why}; name the file as the audit wrote it")


def _arrays(path: Path) -> Arrays:
    # Opened here: numpy leaves a broken archive open.
    with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _attack(path: Path, described: Mapping[str, Any]) -> Attack:
    chosen = attacks()[str(described["name"])]
    for known in chosen.variants():
        # Parameters that JSON has no kind for, such as tuples, come back from here.
        if canonical(known) == described:
            return known
    options = {name: value for name, value in described.items() if name != "name"}
    found: Attack = resolve_options((chosen, options, f"attack {chosen.name!r} in {path.name}"))[0]
    return found


def _kept(about: Mapping[str, Any], arrays: Arrays, battery: tuple[Attack, ...]) -> Kept:
    known = {json.dumps(canonical(p), sort_keys=True): p for attack in battery for p in attack.probes}
    probes = [known.get(json.dumps(described, sort_keys=True)) for described in about["probes"]]
    units = _table(arrays, "units")
    points = [_table(arrays, f"points/{place}") for place in range(len(probes))]
    rules = Rules(**{**about["rules"], "allowed": _access(about["rules"]["allowed"])})
    parts = {}
    for name, named in about["systems"].items():
        systems = tuple(System(n, role, Given(n, ""), method) for n, role, method in named)
        part = Evidence(systems, units, arrays[f"{name}/seen"], arrays[f"{name}/held"], {})
        readings = {
            probe: Reading(points[place], {s: v.astype(np.float64) for s, v in signals.items()}, len(units))
            for place, probe in enumerate(probes)
            if probe is not None and (signals := _part(arrays, f"{name}/{place}/"))
        }
        parts[name] = replace(part, readings=readings)
        _check(name, parts[name])
    methods = tuple(
        KeptMethod(
            str(told["name"]), parts[f"method-{place}"], tuple(Serving(**s) for s in told["serving"]),
            parts.get(f"learned-{place}"),
        )
        for place, told in enumerate(about["methods"])
    )  # fmt: skip
    settings = Settings(seed=int(about["seed"]), tune=float(about["tune"]))
    told = about.get("yardstick")
    yardstick = None if told is None else Control.model_validate(told)
    return Kept(battery, rules, settings, parts["background"], methods, yardstick)


def _access(text: str) -> Access:
    return reduce(or_, (Access[name] for name in text.split("|")))


def _table(arrays: Arrays, head: str) -> pd.DataFrame:
    return pd.DataFrame(_part(arrays, f"{head}/"))


def _part(arrays: Arrays, head: str) -> Arrays:
    return {name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)}


def _check(name: str, part: Evidence) -> None:
    """Shapes that all who read evidence rely on."""
    n_systems, n_units = len(part.systems), len(part.units)
    shapes: Iterable[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
        ("seen", part.seen.shape, (n_systems, n_units)), ("held", part.held.shape, (n_systems, n_units)),
        *((signal, values.shape[:2], (n_systems, len(reading.points)))
          for reading in part.readings.values() for signal, values in reading.values.items()),
    ]  # fmt: skip
    for what, found, wanted in shapes:
        if found != wanted:
            raise ValueError(f"{what} of {name} is {found}, not {wanted}")
    for reading in part.readings.values():
        if len(reading.unit) and not 0 <= reading.unit.min() <= reading.unit.max() < n_units:
            raise ValueError(f"a question of {name} is about no unit")
