"""Export an MMRec model for an audit: `python export_mmrec.py --model BM3 --dataset baby --out exports/ours`.

MMRec (github.com/enoche/MMRec) is a repository, not a package: start this script in the folder where you start its
`main.py`, which is `src`, for some versions the one above it. It trains as `main.py` does, without its log, and
writes into the folder `--out`

- the system, as `export_files.py` beside this file says: tables where what `full_sort_predict` returns is the product
  of two, whatever the model calls them (BM3, for one, maps the tables of its `forward` once more before it multiplies
  them), else full scores. Ids are those of the `.inter` file, 0-based: `[data]` names MMRec's own data folder, with
  `format = "mmrec"`;
- `metrics.json`: Recall@20 and NDCG@20 of the test part as MMRec's own trainer measures them, which rounds to 4 digits.

Of hyper-parameters that MMRec lists for a search the first value is taken; `--key=value` sets another. A model that is
in memory already is exported by `export_model`.

What to know of MMRec's numbers:

- Its test ranking leaves out a user's *train* pairs, and not the valid ones: say `masked = "train"` in [audit].
- Its trainer saves nothing, and in the end the model is that of the last epoch, while the test result that it prints
  is that of the epoch best on the valid pairs. So the export is written whenever an epoch is the best so far, at once:
  some models (MMGCN, GRCN) serve what their last pass left behind, which loading parameters does not bring back.
- With `filter_out_cod_start_users` it drops test users without a train pair (without it, it fails on them); an audit
  ranks for them, too, so that its means are over more users.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from export_files import Predict, write_json, write_system

_TOP = 20


def settings_of(said: Sequence[str]) -> dict[str, Any]:
    """What `--key=value` says: numbers, lists and truth values as in JSON, else text."""
    found: dict[str, Any] = {}
    for argument in said:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not equals or not argument.startswith("--"):
            sys.exit(f"{argument!r} is not understood; MMRec's own settings are given as --key=value")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def prepared(model: str, dataset: str, settings: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """MMRec's configuration, untrained model, and loaders of train, valid and test, by its own steps and seed."""
    sys.path[:0] = [os.getcwd(), os.path.join(os.getcwd(), "src")]
    from utils.configurator import Config
    from utils.dataloader import EvalDataLoader, TrainDataLoader
    from utils.dataset import RecDataset
    from utils.utils import get_model, init_seed

    config = Config(model, dataset, {"gpu_id": 0, **settings})
    for name in dict.fromkeys([*config["hyper_parameters"], "seed"]):
        if isinstance(config[name], list):
            config[name] = config[name][0]
    train, *others = RecDataset(config).split()
    for part in (train, *others):
        str(part)  # what its loaders read of a part is counted when it is printed
    size = config["eval_batch_size"]
    loaders = {"train": TrainDataLoader(config, train, batch_size=config["train_batch_size"], shuffle=True)}
    for name, part in zip(("valid", "test"), others, strict=True):
        loaders[name] = EvalDataLoader(config, part, additional_dataset=train, batch_size=size)
    init_seed(config["seed"])
    loaders["train"].pretrain_setup()
    return config, get_model(config["model"])(config, loaders["train"]).to(config["device"]), loaders


def trainer_of(config: Any, model: Any) -> Any:
    """MMRec's trainer; younger versions ask whether to train with mirrored gradients."""
    from utils.utils import get_trainer

    made = get_trainer()
    return made(config, model, *([False] if "mg" in inspect.signature(made).parameters else []))


def at_best(trainer: Any, valid: Any, act: Callable[[], object]) -> None:
    """Have a trainer act whenever its valid score is the best so far, by its own rule."""
    measure, best = trainer._valid_epoch, trainer.best_valid_score
    bigger = trainer.valid_metric_bigger

    def measured(loader: Any) -> Any:
        nonlocal best
        score, result = measure(loader)
        if loader is valid and (score > best if bigger else score < best):
            best = score
            act()
        return score, result

    trainer._valid_epoch = measured


def predictor(model: Any) -> Predict:
    """Scores of all items, as MMRec's own full ranking asks for them."""
    device = model.device
    model.eval()

    def predict(rows: Any) -> Any:
        users = torch.as_tensor(rows, device=device)
        # The second entry is what its trainer masks afterwards.
        return model.full_sort_predict([users, torch.empty((2, 0), dtype=torch.long, device=device)])

    return predict


def export_model(model: Any, out: Path, questions: Path | None = None) -> str:
    """Write a model as it serves now; returns what was written, for a person."""
    users, items = np.arange(model.n_users), np.arange(model.n_items)
    return write_system(out, predictor(model), users, items, users, items, questions)


def main() -> None:
    """Read the command line, train, and export the best epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="MMRec's name of the model")
    parser.add_argument("--dataset", required=True, help="MMRec's name of the data set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the system")
    parser.add_argument("--questions", type=Path, help="folder of `auditkit points`, for models that are no product")
    said, rest = parser.parse_known_args()
    config, model, loaders = prepared(said.model, said.dataset, settings_of(rest))
    trainer = trainer_of(config, model)
    at_best(trainer, loaders["valid"], lambda: export_model(model, said.out, said.questions))
    test = trainer.fit(loaders["train"], valid_data=loaders["valid"], test_data=loaders["test"], saved=False)[2]
    wanted = {name: float(value) for name, value in test.items() if name in (f"recall@{_TOP}", f"ndcg@{_TOP}")}
    write_json(said.out / "metrics.json", {**wanted, "masked": "train"})
    print(f"{', '.join(sorted(path.name for path in said.out.iterdir()))} in {said.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
