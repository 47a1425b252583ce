"""Export a RecBole run for an audit: `python export_recbole.py --checkpoint saved/BPR.pth --out exports/ours`.

Runs in RecBole's own environment (written for RecBole 1.2), in the folder that the run was started in. It writes

- the system, as `export_files.py` beside this file says: tables where the model serves a product, else full scores,
  under RecBole's tokens, without the padding row 0 and without tokens that no interaction names;
- `metrics.json`: Recall@20 and NDCG@20 of the test part as RecBole itself computes them, not rounded;
- with `--data exports/data`: the split as RecBole made it, `<name>.train.inter` and so on. auditkit reads the folder as
  it is (`[data] path = "exports/data"`), and so does RecBole (`benchmark_filename: [train, valid, test]`).

Without `--checkpoint` it trains first: `--model BPR --dataset ml-100k --config run.yaml`. Whatever else stands on the
command line as `--key=value` is RecBole's own setting.

A checkpoint of RecBole is a pickle: reading one runs what is in it. Read only checkpoints that you made yourself; what
goes to the auditor is what this script writes, and that holds no code.

RecBole's test ranking leaves out a user's train and valid pairs: in the audit `masked = "train+valid"`, the default.
Then both measure the same (a user without a test pair is measured by neither), but where

- scores are equal: an audit ranks the first id first, RecBole as it happens;
- a pair stands in two parts: RecBole asks for it at test and does not hide it, an audit keeps it in the earlier part;
- tokens stand in the `.item` file and in no interaction: RecBole ranks them, an audit does not know them.

A rating below RecBole's `threshold` is a pair all the same: its pairwise models train on it as on any other.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from export_files import Ids, Predict, write_json, write_split, write_system

PARTS = ("train", "valid", "test")
_TOP = 20
# Pairs asked at once of a model that scores pairs only.
_PAIRS = 1 << 18


@dataclass
class Run:
    """A RecBole run in memory: configuration, model, whole data set, and the loaders of train, valid and test."""

    config: Any
    model: Any
    dataset: Any
    loaders: tuple[Any, Any, Any]


def prepared(config: Any) -> Run:
    """Data and an untrained model, by RecBole's own steps and seeds."""
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    return Run(config, model, dataset, loaders)


def loaded(path: Path) -> Run:
    """A run as its checkpoint left it; the checkpoint says model, data set and settings."""
    checkpoint = trusted(path)
    # What a fresh configuration does on the way: names that RecBole uses and numpy no longer has.
    checkpoint["config"].compatibility_settings()
    run = prepared(checkpoint["config"])
    restore(run.model, checkpoint)
    return run


def trained(model: str, dataset: str, files: list[str]) -> Run:
    """Train as RecBole does, with its early stopping where the configuration asks for it."""
    from recbole.config import Config
    from recbole.utils import get_trainer

    run = prepared(Config(model=model, dataset=dataset, config_file_list=files))
    trainer = get_trainer(run.config["MODEL_TYPE"], run.config["model"])(run.config, run.model)
    trainer.fit(run.loaders[0], run.loaders[1], saved=True, show_progress=False)
    restore(run.model, trusted(Path(trainer.saved_model_file)))
    return run


def trusted(path: Path) -> Any:
    """A checkpoint of one's own. It holds a pickled configuration, so torch's safe way to load refuses it."""
    return torch.load(path, map_location="cpu", weights_only=False)


def restore(model: Any, checkpoint: Any) -> None:
    """Put the parameters of a checkpoint into a model."""
    model.load_state_dict(checkpoint["state_dict"])
    model.load_other_parameter(checkpoint.get("other_parameter"))


def predictor(model: Any, dataset: Any, device: Any) -> Predict:
    """Scores of all rows of RecBole's item table, the padding included, as its own full ranking asks for them."""
    from recbole.data.interaction import Interaction

    items = dataset.get_item_feature().to(device)
    model.eval()

    def pairwise(users: Any) -> Any:
        asked = users.repeat_interleave(len(items))
        asked.update(items.repeat(len(users)))
        return model.predict(asked)

    def predict(rows: Any) -> Any:
        users = dataset.join(Interaction({dataset.uid_field: torch.as_tensor(rows)})).to(device)
        try:
            return model.full_sort_predict(users).reshape(len(rows), -1)
        except NotImplementedError:
            step = max(1, _PAIRS // len(items))
            blocks = [pairwise(users[start : start + step]) for start in range(0, len(rows), step)]
            return torch.cat([block.reshape(-1) for block in blocks]).reshape(len(rows), -1)

    return predict


def pairs_of(dataset: Any) -> tuple[Ids, Ids]:
    """The pairs of a part as tokens."""
    rows = [np.asarray(dataset.inter_feat[field]) for field in (dataset.uid_field, dataset.iid_field)]
    users, items = (
        dataset.field2id_token[f][r] for f, r in zip((dataset.uid_field, dataset.iid_field), rows, strict=True)
    )
    return users, items


def rows_of(tokens: Ids, wanted: Ids) -> tuple[Any, Ids]:
    """Rows of tokens in RecBole's numbering, in the order of the sorted tokens, and these tokens.

    Args:
        tokens: of every row; row 0 is padding.
        wanted: some of them, in any order, repeated or not.
    """
    kept = np.flatnonzero(np.isin(tokens, wanted))
    kept = kept[kept > 0]
    order = kept[np.argsort(tokens[kept])]
    return order.astype(np.int64), np.asarray(tokens[order])


def own_metrics(run: Run) -> dict[str, Any]:
    """What RecBole measures on its test part, not rounded."""
    from recbole.utils import get_trainer

    for name, value in (("metrics", ["Recall", "NDCG"]), ("topk", [_TOP]), ("metric_decimal_place", 16)):
        run.config[name] = value
    trainer = get_trainer(run.config["MODEL_TYPE"], run.config["model"])(run.config, run.model)
    measured = trainer.evaluate(run.loaders[2], load_best_model=False)
    return {name: float(value) for name, value in measured.items()}


def refusals(config: Any) -> list[str]:
    """Why a run cannot be exported, or its metrics not be compared."""
    kind = config["MODEL_TYPE"].name
    found = []
    if kind == "SEQUENTIAL":
        found.append("a sequential model scores sequences, not users: serve it to the audit as an endpoint")
    if config["repeatable"]:
        found.append("repeatable = True masks nothing at test, which the audit has no word for: set it to False")
    if config["eval_args"]["mode"]["test"] != "full":
        found.append("eval_args.mode must be full: sampled metrics cannot be compared with a full ranking")
    return found


def export(run: Run, out: Path, data: Path | None, questions: Path | None = None) -> str:
    """Write a run into folders; returns what was written, for a person."""
    parts = {part: pairs_of(loader._dataset) for part, loader in zip(PARTS, run.loaders, strict=True)}
    named = [np.concatenate([pairs[side] for pairs in parts.values()]) for side in (0, 1)]
    set_, tokens = run.dataset, run.dataset.field2id_token
    user_rows, users = rows_of(tokens[set_.uid_field], named[0])
    item_rows, items = rows_of(tokens[set_.iid_field], named[1])
    predict = predictor(run.model, run.loaders[0]._dataset, run.config["device"])
    written = write_system(out, predict, user_rows, item_rows, users, items, questions)
    unnamed = len(tokens[set_.uid_field]) + len(tokens[set_.iid_field]) - 2 - len(users) - len(items)
    if data is not None:
        write_split(data, str(run.config["dataset"]), parts)
    write_json(out / "metrics.json", {**own_metrics(run), "masked": "train+valid"})
    return f"{written}; {len(users)} users, {len(items)} items, {unnamed} tokens without an interaction left out"


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a run's saved .pth file, made by yourself")
    parser.add_argument("--model", help="without a checkpoint: RecBole's name of the model")
    parser.add_argument("--dataset", help="without a checkpoint: RecBole's name of the data set")
    parser.add_argument("--config", action="append", default=[], help="a YAML file of RecBole; may be repeated")
    parser.add_argument("--out", type=Path, required=True, help="folder of the system")
    parser.add_argument("--data", type=Path, help="folder for the split")
    parser.add_argument("--questions", type=Path, help="folder of `auditkit points`, for models that are no product")
    said, sys.argv[1:] = parser.parse_known_args()
    if said.checkpoint is None and not (said.model and said.dataset):
        parser.error("give --checkpoint, or --model and --dataset to train")
    run = loaded(said.checkpoint) if said.checkpoint else trained(said.model, said.dataset, said.config)
    problems = refusals(run.config)
    if problems:
        sys.exit("\n".join(problems))
    print(export(run, said.out, said.data, said.questions), file=sys.stderr)


if __name__ == "__main__":
    main()
