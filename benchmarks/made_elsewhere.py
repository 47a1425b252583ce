"""One audit of ml-100k run five ways: live, embedding tables, answers to questions, an HTTP server here, an ONNX file.

    python -m benchmarks.made_elsewhere --work FOLDER [--regime interaction|user] [--backbone bpr-mf|lightgcn]

Every system is trained here once. Then it is handed over as its owner would: each way reads files or a server by a
configuration of its own, and has the owner's systems as its yardstick. Printed are verdicts and the largest difference
of any number of any finding to the live audit. Last come top-20 lists alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.api import audit_plan
from auditkit.architecture import Backbone
from auditkit.builds import System, Workshop, build
from auditkit.config import load, resolve
from auditkit.contracts import Access
from auditkit.data.dataset import Ints
from auditkit.deletion import Regime, select
from auditkit.outside.questions import write_questions
from auditkit.outside.training_sets import slug
from auditkit.plan import Plan, Settings, audited_systems, background_systems, make_plan
from auditkit.plugins import unlearners
from auditkit.record import Record
from auditkit.requests import Names
from auditkit.store import Store
from auditkit.talk import Talk
from benchmarks.common import data_folder, read_implicit, recipe_of

METHODS = ("gold", "reverse-bpr", "no-op")
HEAD = """\
[data]
path = "{data}"
{split}
[request]
regime = "{regime}"
select = "random"
share = 0.05

[audit]
profile = "{profile}"
access = {access}
{more}
"""
GIVEN = '\n[[given]]\nname = "{name}"\nrole = "{role}"\n{way} = "{place}"\noptions = {{ {options} }}\n'


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--work", required=True, type=Path, help="folder of trained systems, exports and answers")
    made.add_argument("--regime", default="interaction", choices=["interaction", "user", "item"])
    made.add_argument("--backbone", default="bpr-mf", choices=["bpr-mf", "lightgcn"])
    made.add_argument("--profile", default="quick", choices=["quick", "standard", "certify"])
    made.add_argument("--ways", nargs="*", default=["embeddings", "table", "endpoint", "onnx", "lists"])
    return made.parse_args()


def planned(options: argparse.Namespace) -> Plan:
    """The live audit. A fresh account has the mean of what it is told in every way, so that all answer alike."""
    data = read_implicit(data_folder(None, "ml-100k"))
    request = select(data, cast(Regime, options.regime), share=0.05)
    settings = Settings(profile=options.profile, access=_access(options.regime))
    methods = [unlearners()[name]() for name in METHODS]
    return make_plan(data, request, recipe_of(options.backbone), methods, settings=settings)


def _access(regime: str) -> Access:
    reach = Access.LISTS | Access.SCORES
    return reach if regime == "interaction" else reach | Access.NEW_USERS | Access.NEW_ITEMS


def systems_of(plan: Plan) -> list[System]:
    """All that an owner hands over."""
    return [*background_systems(plan), *(s for runs in audited_systems(plan).values() for s in runs)]


def export(plan: Plan, store: Path, out: Path, questions: Path) -> None:
    """Write each system as embedding tables, as answers to the questions, as lists and as ONNX."""
    shop = Workshop(plan.data, plan.request, Store(store))
    users = pd.read_parquet(questions / "users.parquet")["user"].to_numpy().astype(np.int64)
    with Talk() as talk:
        for system, model, _ in build(systems_of(plan), shop, talk):
            assert isinstance(model, Backbone)
            folder = out / slug(system.name)
            folder.mkdir(parents=True, exist_ok=True)
            vectors = [table.detach().numpy() for table in model.embed()]
            for name, table in zip(("users", "items"), vectors, strict=True):
                np.save(folder / f"{name}.npy", table)
            scores = model.score(users).numpy()
            _table(folder / "scores.parquet", users, "scores", scores)
            if (questions / "histories.parquet").is_file():
                asked = pd.read_parquet(questions / "histories.parquet")
                side = asked["side"].iloc[0]
                told = [np.asarray(ids).astype(np.int64) for ids in asked["told"]]
                folded = model.fold_in(told, side=side).numpy()
                frame = pd.DataFrame({"history": asked["history"], "scores": list(folded)})
                frame.to_parquet(folder / "folded.parquet", index=False)
            _onnx(folder / "model.onnx", *vectors)


def export_lists(out: Path, questions: Path, length: int) -> None:
    """Write each system's top lists, without what the questions leave out."""
    users = pd.read_parquet(questions / "users.parquet")["user"].to_numpy().astype(np.int64)
    left = pd.read_parquet(questions / "left_out.parquet").astype(np.int64)
    place = {user: k for k, user in enumerate(users)}
    rows = left["user"].map(place).to_numpy()
    for folder in sorted(out.iterdir()):
        scores = np.load(folder / "users.npy")[users] @ np.load(folder / "items.npy").T
        scores[rows, left["item"].to_numpy()] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :length]
        (folder / "lists").mkdir(exist_ok=True)
        _table(folder / "lists" / "lists.parquet", users, "items", best)


def _table(path: Path, users: Ints, column: str, rows: NDArray[Any]) -> None:
    pd.DataFrame({"user": users, column: list(rows)}).to_parquet(path, index=False)


def _onnx(path: Path, users: NDArray[Any], items: NDArray[Any]) -> None:
    from onnx import TensorProto, checker, helper, numpy_helper, save

    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["U", "users"], ["vectors"]),
            helper.make_node("MatMul", ["vectors", "V"], ["scores"]),
        ],
        "dot", [helper.make_tensor_value_info("users", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(items)])],
        [numpy_helper.from_array(users, "U"), numpy_helper.from_array(np.ascontiguousarray(items.T), "V")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, path)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The reference server on a free port of this machine; its address."""
    script = Path(__file__).resolve().parents[1] / "examples" / "serve.py"
    command = [sys.executable, str(script), str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = server.stderr.readline().split()[1].rsplit("/", 1)[0]
            yield address
        finally:
            server.terminate()


def configured(options: argparse.Namespace, way: str, place: str, more: str, access: Sequence[str]) -> Path:
    """The configuration of an audit whose systems all come in one way."""
    folder = data_folder(None, "ml-100k")
    text = HEAD.format(
        data=folder.resolve(), split='split = "random:0.8/0/0.2"', regime=options.regime, profile=options.profile,
        access=list(access), more="list_length = 20" if list(access) == ["lists"] else "",
    )  # fmt: skip
    for name in METHODS:
        text += GIVEN.format(
            name=name, role="unlearned", way=way, place=place.replace("{system}", slug(name)), options=more
        )
    text += GIVEN.format(name="", role="yardstick", way=way, place=place, options=more)
    path: Path = options.work / f"{options.regime}-{options.backbone}-{way}{len(access)}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def numbers(record: Record) -> dict[tuple[str, ...], float | None]:
    """Every number of every finding, and what verdicts rest on."""
    found: dict[tuple[str, ...], float | None] = {("", "attainable"): record.attainable_margin}
    for system in record.systems:
        if system.verdict is None:
            continue
        found[(system.name, "depth")] = system.depth.value
        found |= {(system.name, name): value.value for name, value in system.utility.items()}
        for f in system.findings:
            key = (system.name, f.attack, str(f.parameters))
            told = {
                "dose": f.residual_dose.value, "pattern": f.pattern.value, "spread": f.spread.value,
                "auc": f.auc.value, "p": f.p_value,
            }  # fmt: skip
            found |= {(*key, name): value for name, value in told.items()}
    return found


def difference(one: Record, other: Record) -> tuple[float, str, int]:
    """Largest absolute difference, where it is, and how many numbers both have."""
    mine, theirs = numbers(one), numbers(other)
    apart = {
        key: abs(a - b) for key, a in mine.items() if a is not None and (b := theirs.get(key)) is not None
    }  # fmt: skip
    worst = max(apart, key=lambda key: apart[key])
    return apart[worst], " ".join(worst), len(apart)


def row(way: str, record: Record, live: Record, seconds: float) -> str:
    """One line of the table."""
    verdicts = ", ".join(f"{s.name} {s.verdict}" for s in record.systems if s.verdict is not None)
    gap, where, count = difference(record, live)
    attainable = "none" if record.attainable_margin is None else f"{record.attainable_margin:.3f}"
    return f"| {way} | {verdicts} | {attainable} | {gap:.1e} of {count} numbers ({where}) | {seconds:.0f} |"


def main() -> None:
    """Run and print."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    plan, stem = planned(options), f"{options.regime}-{options.backbone}"
    store, out = options.work / "store", options.work / f"exports-{stem}"
    audited: Callable[[Plan], Record] = lambda made: _audited(made, store)  # noqa: E731
    started = time.perf_counter()
    live = audited(plan)
    print("| way in | verdicts | attainable margin | largest difference to the live audit | seconds |")
    print("|---|---|---|---|---|")
    print(row("live", live, live, time.perf_counter() - started), flush=True)
    access = ["lists", "scores"] if options.regime == "interaction" else ["lists", "scores", "new-users", "new-items"]
    questions = options.work / f"points-{stem}"
    if not questions.is_dir():
        asked = configured(options, "table", f"{out}/{{system}}", f'questions = "{questions}"', access)
        write_questions(resolve(load(asked), unopened=True), Names(), questions)
        export(plan, store, out, questions)
    with ExitStack() as stack:
        for way in options.ways:
            place, more, granted, kind = f"{out}/{{system}}", "", access, way
            if way == "table":
                more = f'questions = "{questions}"'
            elif way == "endpoint":
                place = f"{stack.enter_context(serving(out))}/{{system}}"
            elif way == "onnx":
                place, granted = f"{out}/{{system}}/model.onnx", ["lists", "scores"]
            elif way == "lists":
                place, granted, kind = f"{out}/{{system}}/lists", ["lists"], "table"
                short = options.work / f"points-lists-{stem}"
                more = f'questions = "{short}"'
                if not short.is_dir():
                    asked = configured(options, kind, place, more, granted)
                    write_questions(resolve(load(asked), unopened=True), Names(), short)
                    export_lists(out, short, 20)
            started = time.perf_counter()
            record = audited(resolve(load(configured(options, kind, place, more, granted))))
            print(row(way, record, live, time.perf_counter() - started), flush=True)


def _audited(plan: Plan, store: Path) -> Record:
    with Talk() as talk:
        return audit_plan(plan, out=None, store=store, progress=talk)


if __name__ == "__main__":
    main()
