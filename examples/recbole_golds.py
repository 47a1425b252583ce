"""Train the yardstick of an audit with RecBole: `python recbole_golds.py training-sets/ --model BPR --config run.yaml`.

`auditkit plan-golds` writes `training-sets/`. This trains one model per system listed there, by RecBole's own trainer,
on exactly the pairs of that system and with its own seed, and exports each as `export_recbole.py` beside this file
does. Interrupted, it goes on where it stopped: a folder that is there is finished. It runs in RecBole's environment
(which also needs pyarrow), for models that learn from user-item pairs alone.

Ids keep their meaning. RecBole numbers tokens by their first place in the files, per data set, and gives no row to a
user or item that is in none. So every training set is written with a `.user` and an `.item` file that name all users
and items of the audited data: who lost every pair still has a row (left as it was drawn), and an item that was erased
can still be drawn as a negative, in every system alike. Exports name their rows by token, sorted.

The procedure is that of the configuration file, for all systems alike. With `eval_step: 0` it trains a fixed number of
epochs; else RecBole stops early by the valid pairs of that very system. Test pairs are in no training set, so nothing
is chosen by them.

Two more systems are written, whose truth is known, to see that the audit tells them apart: `unlearned-gold`, a fresh
Gold with a seed of its own, has to pass; `unlearned-noop`, a copy of the first original, has to fail.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export_files import Ids, column_of, write_json, write_split, write_system
from export_recbole import predictor, restore, rows_of, trusted

_NAME = "training-set"
_GOLD, _NOOP = "unlearned-gold", "unlearned-noop"


@dataclass(frozen=True)
class System:
    """One system to train: its name, the column of its pairs, its seed."""

    name: str
    column: str
    seed: int


@dataclass(frozen=True)
class Procedure:
    """How every system is trained: RecBole's model, its configuration files, further settings of the command line."""

    model: str
    files: tuple[str, ...]
    settings: tuple[str, ...]

    def digest(self, folder: Path, seed: int) -> str:
        """SHA-256 of the procedure, a training set and a seed: what decides what is trained."""
        state = hashlib.sha256(json.dumps([self.model, list(self.settings), seed]).encode())
        for path in [*map(Path, self.files), *sorted(folder.iterdir())]:
            state.update(b"\0" + path.read_bytes())
        return state.hexdigest()


class Sets:
    """The folder that `auditkit plan-golds` wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / "withdrawn.parquet").exists():
            sys.exit("the request withdraws item features, which these models do not read: train the systems yourself")
        self.users, self.items = (column_of(folder / f"{side}s.parquet", side) for side in ("user", "item"))
        pairs = [column_of(folder / "training-sets.parquet", name) for name in ("user", "item", "part")]
        self.pair_users, self.pair_items, self.part = pairs
        with (folder / "systems.csv").open(newline="", encoding="utf-8") as file:
            self.rows = list(csv.DictReader(file))

    def systems(self) -> list[System]:
        """All that are listed, and the fresh Gold."""
        listed = [System(row["system"], row["system"], int(row["seed"])) for row in self.rows]
        gold = next(row["system"] for row in self.rows if row["role"] == "gold")
        fresh = next(n for n in range(1, len(listed) + 2) if n not in {system.seed for system in listed})
        return [*listed, System(_GOLD, gold, fresh)]

    def parts(self, column: str) -> dict[str, tuple[Ids, Ids]]:
        """Train and valid pairs of a system."""
        held = column_of(self.folder / "training-sets.parquet", column) == "True"
        masks = {part: held & (self.part == part) for part in ("train", "valid")}
        row = next(row for row in self.rows if row["system"] == column)
        if [int(row["n_train"]), int(row["n_valid"])] != [int(mask.sum()) for mask in masks.values()]:
            sys.exit(f"{column}: systems.csv and training-sets.parquet differ; write them again (auditkit plan-golds)")
        return {part: (self.pair_users[mask], self.pair_items[mask]) for part, mask in masks.items()}

    def write(self, column: str, folder: Path) -> list[str]:
        """A system's set as RecBole's files; returns its parts that hold anything."""
        parts = self.parts(column)
        write_split(folder, _NAME, parts)
        for side, ids in (("user", self.users), ("item", self.items)):
            text = "\n".join([f"{side}_id:token", *ids.tolist()])
            (folder / f"{_NAME}.{side}").write_text(text + "\n", "utf-8")
        return [part for part, (users, _) in parts.items() if len(users)]


def configuration(procedure: Procedure, folder: Path, parts: Sequence[str], seed: int) -> Any:
    """RecBole's configuration with the training set in place of the user's own data set."""
    from recbole.config import Config

    ours = {
        "data_path": str(folder.parent), "checkpoint_dir": str(folder.parent), "benchmark_filename": list(parts),
        "seed": seed, "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "load_col": None, "threshold": None,
        "normalize_field": None, "normalize_all": None, "show_progress": False, "save_dataset": False,
        "save_dataloaders": False,
    }  # fmt: skip
    sys.argv[1:] = procedure.settings
    return Config(procedure.model, folder.name, list(procedure.files), ours)


def fit(config: Any) -> tuple[Any, Any]:
    """A model trained by RecBole on the parts of its data set, and the train part."""
    from recbole.data import create_dataset
    from recbole.data.utils import get_dataloader
    from recbole.sampler import Sampler
    from recbole.utils import get_model, get_trainer, init_seed

    init_seed(config["seed"], config["reproducibility"])
    parts = create_dataset(config).build()
    asked = config["train_neg_sample_args"]
    drawn = asked["distribution"] != "none"
    sampler = Sampler(
        ["train", "valid"][: len(parts)], parts, asked["distribution"] if drawn else "uniform", asked["alpha"]
    )
    own = sampler.set_phase("train") if drawn else None
    train = get_dataloader(config, "train")(config, parts[0], own, shuffle=config["shuffle"])
    valid = None
    if len(parts) > 1:
        valid = get_dataloader(config, "valid")(config, parts[1], sampler.set_phase("valid"), shuffle=False)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, parts[0]).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid, verbose=False, saved=True, show_progress=False)
    restore(model, trusted(Path(trainer.saved_model_file)))
    return model, parts[0]


def make(system: System, sets: Sets, procedure: Procedure, out: Path, questions: Path | None) -> str:
    """Train and export one system unless it is there; returns what was done, for a person."""
    done = out / system.name / "trained.json"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / _NAME
        parts = sets.write(system.column, folder)
        digest = procedure.digest(folder, system.seed)
        if done.exists():
            if json.loads(done.read_text("utf-8"))["digest"] != digest:
                sys.exit(f"{done.parent} was made from other pairs, settings or seed: remove it, or name another --out")
            return "there already"
        start = time.perf_counter()
        config = configuration(procedure, folder, parts, system.seed)
        model, data = fit(config)
        tokens = data.field2id_token
        user_rows, users = rows_of(tokens[data.uid_field], sets.users)
        item_rows, items = rows_of(tokens[data.iid_field], sets.items)
        partial = out / f".{system.name}"
        shutil.rmtree(partial, ignore_errors=True)
        predict = predictor(model, data, config["device"])
        written = write_system(partial, predict, user_rows, item_rows, users, items, questions)
        seconds = time.perf_counter() - start
        write_json(partial / "trained.json", {"digest": digest, "seed": system.seed, "seconds": round(seconds, 2)})
        partial.replace(done.parent)
        return f"{written}, {seconds:.1f} s"


def main() -> None:
    """Read the command line and train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, help="folder that auditkit plan-golds wrote")
    parser.add_argument("--model", required=True, help="RecBole's name of the model")
    parser.add_argument("--config", action="append", default=[], help="a YAML file of RecBole; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("exports"), help="folder of the exports")
    parser.add_argument("--questions", type=Path, help="folder of `auditkit points`, for models that are no product")
    said, rest = parser.parse_known_args()
    procedure, sets = Procedure(said.model, tuple(said.config), tuple(rest)), Sets(said.sets)
    systems = sets.systems()
    for place, system in enumerate(systems, 1):
        text = make(system, sets, procedure, said.out, said.questions)
        print(f"[{place}/{len(systems)}] {system.name}: {text}", file=sys.stderr, flush=True)
    original = next(row["system"] for row in sets.rows if row["role"] == "original")
    shutil.copytree(said.out / original, said.out / _NOOP, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
