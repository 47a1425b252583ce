"""A service over HTTP scores as the model that it serves does."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from auditkit.backbones.bpr_mf import BPRMF
from auditkit.contracts import Access, Backbone, Recipe, Side
from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError, NotApplicableError
from auditkit.evidence import make_case
from auditkit.outside.source import Ids
from auditkit.probes import Lists, Pairs
from auditkit.requests import Names
from tests.outside.scripted import (
    ABOUT,
    LISTS,
    N_ITEMS,
    SCORES,
    SECRET,
    Handler,
    Scripted,
    opened,
    running,
    scores,
    scripted,
    send,
    told,
)

pytest.importorskip("requests", reason="endpoints are the extra auditkit[http]")

SERVE = Path(__file__).parents[2] / "examples" / "serve.py"


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted() as made:
        yield made


@pytest.fixture(scope="module")
def serve() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve_example", SERVE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_rows_are_exact_and_asked_once(server: Scripted) -> None:
    url = server.case(
        "good", {"": send({**ABOUT, "access": ["scores", "new-users"]}), "scores": scores, "fold-in": told}
    )
    found = opened(f"{url}/", batch=2)
    assert (found.text, found.digest, found.list_length) == (f"endpoint {url}", "", None)
    assert found.access == Access.SCORES | Access.LISTS | Access.NEW_USERS
    model, before = found.open(), server.asked("good")
    # Its mere presence would say that lists are cut.
    assert not hasattr(model, "list_length")
    users = np.array([2, 0, 2, 1])
    expected = np.array(SCORES, float)[users]
    for _ in range(2):
        read = model.score(users)
        assert read.dtype == torch.float64
        np.testing.assert_array_equal(read.numpy(), expected)
        np.testing.assert_array_equal(np.signbit(read.numpy()), np.signbit(expected))
        # Probes write into what they are given; what is kept must not change.
        read[:] = 7.0
        model.score(users[:1])[:] = 7.0
    assert server.asked("good") - before == 2
    assert [body["users"] for path, _, body in server.seen[before:]] == [[2, 0], [1]]
    assert model.score(users[:0]).shape == (0, N_ITEMS)
    for _ in range(2):
        assert model.fold_in([np.array([1, 2]), np.array([3])]).tolist() == [[3.0] * 4, [3.0] * 4]  # type: ignore[attr-defined]
    assert server.asked("good") - before == 3
    with pytest.raises(NotApplicableError, match="takes no new items"):
        model.fold_in([np.array([0])], side="item")  # type: ignore[attr-defined]
    with pytest.raises(NotApplicableError, match="shows no branches"):
        model.score(users, branch="visual")


def test_a_service_takes_no_more_at_once_than_it_says(server: Scripted) -> None:
    url = server.case("one", {"": send({**ABOUT, "max_users_per_request": 1}), "scores": scores})
    model = opened(url, batch=50).open()
    assert model.score(np.arange(3)).isnan().sum() == 1
    assert {len(body["users"]) for path, _, body in server.seen if body} == {1}


def test_access_is_cut_to_what_is_answered(server: Scripted) -> None:
    about = {**ABOUT, "access": ["scores", "new-users", "new-items"]}

    def users_only(handler: Handler, body: Any) -> None:
        (told if body["side"] == "user" else send({}, 501))(handler, body)

    url = server.case("cut", {"": send(about), "scores": scores, "fold-in": users_only})
    assert opened(url).access == Access.SCORES | Access.LISTS | Access.NEW_USERS
    url = server.case("cut", {"": send(about), "scores": scores})
    assert opened(url).access == Access.SCORES | Access.LISTS


def test_lists_alone_become_scores(server: Scripted) -> None:
    def lists(handler: Handler, body: Any) -> None:
        assert body["k"] == 3
        send({"items": [[3, 0, 1][: 1 + u] for u in body["users"]]})(handler, body)

    url = server.case("lists", {"": send({**LISTS, "max_k": 3}), "lists": lists})
    found = opened(url)
    assert (found.access, found.list_length) == (Access.LISTS, 3)
    nan = np.nan
    rows = [[nan, nan, nan, 3], [2, nan, nan, 3], [2, 1, nan, 3]]
    model = found.open()
    np.testing.assert_array_equal(model.score(np.arange(3)).numpy(), rows)
    assert model.list_length == 3  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="list_length must be at most 3, the longest list served, got 4"):
        opened(url, list_length=4)
    with pytest.raises(ConfigurationError, match="list_length is for services that give lists alone"):
        opened(server.case("full", {"": send(ABOUT), "scores": scores}), list_length=2)


def test_a_service_may_keep_its_own_ids(server: Scripted) -> None:
    users, items = ["u7", "u1", "u9"], ["a", "b", "c", "d"]
    columns, rows = ["d", "a", "c", "b"], ["u9", "u7", "u1"]

    def by_name(handler: Handler, body: Any) -> None:
        found = [[SCORES[users.index(u)][items.index(i)] for i in columns] for u in body["users"]]
        send({"scores": found})(handler, body)

    def lists(handler: Handler, body: Any) -> None:
        send({"items": [["d", "b"] if u == "u7" else ["a"] for u in body["users"]]})(handler, body)

    def fold_in(handler: Handler, body: Any) -> None:
        names = columns if body["side"] == "user" else rows
        assert {*body["histories"][0]} <= {*(items if body["side"] == "user" else users)}
        known = items if body["side"] == "user" else users
        send({"scores": [[float(known.index(n)) for n in names] for _ in body["histories"]]})(handler, body)

    about = {**ABOUT, "ids": "own", "items": columns, "users": rows, "access": ["scores", "new-users", "new-items"]}
    ids = Ids(3, 4, Names(np.array(users), np.array(items)))
    url = server.case("own", {"": send(about), "scores": by_name, "fold-in": fold_in})
    model = opened(url, ids).open()
    np.testing.assert_array_equal(model.score(np.arange(3)).numpy(), np.array(SCORES, float))
    sides: dict[Side, list[float]] = {"user": [0, 1, 2, 3], "item": [0, 1, 2]}
    for side, expected in sides.items():
        assert model.fold_in([np.array([1, 2])], side=side).tolist() == [expected]  # type: ignore[attr-defined]
    url = server.case("own-lists", {"": send({**about, "access": ["lists"]}), "lists": lists})
    nan = np.nan
    read = opened(url, ids, list_length=2).open().score(np.arange(2)).numpy()
    np.testing.assert_array_equal(read, [[nan, 1, nan, 2], [2, nan, nan, nan]])


def exact(model: BPRMF) -> BPRMF:
    """The same model with vectors whose products are exact in any order of summing: short binary fractions."""
    with torch.no_grad():
        for table in (model.user_table, model.item_table):
            table.copy_((table * 64).round() / 64)
    return model


def test_probes_read_the_live_model_and_the_service_alike(
    serve: ModuleType, tiny: Dataset, tiny_request: DeletionRequest, tiny_recipe: Recipe
) -> None:
    live = tiny_recipe.train(tiny, 1, device="cpu")
    assert isinstance(live, BPRMF)
    exact(live)
    tables = serve.Tables(*(t.detach().numpy() for t in live.embed()))
    ids, case = Ids(tiny.n_users, tiny.n_items), make_case(tiny, tiny_request, seed=0)
    with serve.Server(("127.0.0.1", 0), {"ours": tables}) as made, running(made) as url:
        found = opened(f"{url}/ours", ids, batch=7)
        assert found.access == Access.SCORES | Access.LISTS | Access.NEW_USERS | Access.NEW_ITEMS
        through: Any = found.open()
        users = np.arange(tiny.n_users)
        assert torch.equal(through.score(users), live.score(users).double())
        histories = [np.array([3, 5]), np.array([8, 1, 7, 2])]
        for side in ("user", "item"):
            expected = Backbone.fold_in(live, histories, side=side).double()
            assert torch.equal(through.fold_in(histories, side=side), expected)
        for probe in (Pairs(), Lists()):
            points = probe.points(case, rng=np.random.default_rng(0))
            ours, theirs = (probe.read(m, points, case, rng=np.random.default_rng(1)) for m in (live, through))
            for signal, values in ours.items():
                assert np.isfinite(values).any()
                np.testing.assert_array_equal(values, theirs[signal])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_comes_through(serve: ModuleType, dtype: type[np.floating[Any]]) -> None:
    draws = np.random.default_rng(0).integers(0, 256, (4000, np.dtype(dtype).itemsize), dtype=np.uint8)
    items = draws.view(dtype)
    items[:4, 0] = [np.nan, np.inf, -np.inf, np.finfo(dtype).smallest_subnormal]
    assert 0 < np.isnan(items).sum() < 200
    expected = np.where(np.isfinite(items), items, np.nan).astype(np.float64)
    tables = serve.Tables(np.ones((1, 1), dtype), items)
    with serve.Server(("127.0.0.1", 0), {"": tables}) as made, running(made) as url:
        read = opened(url, Ids(1, len(items))).open().score(np.array([0])).numpy()
    np.testing.assert_array_equal(read[0], expected[:, 0])


def test_the_reference_server_as_it_is_run(serve: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    for name in ("original-1", "gold-1"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "users.npy", rng.normal(size=(5, 2)))
        np.save(tmp_path / name / "items.npy", rng.normal(size=(6, 2)))
    command = [sys.executable, str(SERVE), str(tmp_path), "--port", "0", "--token-env", "SERVED_TOKEN"]
    command += ["--access", "scores", "new-users"]
    environment = {**os.environ, "SERVED_TOKEN": SECRET}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = [process.stderr.readline() for _ in range(2)]
            assert [re.sub(r":\d+/", ":PORT/", line) for line in lines] == [
                f"serving http://127.0.0.1:PORT/{name} (5 users, 6 items)\n" for name in ("gold-1", "original-1")
            ]
            url = lines[1].split()[1]
            monkeypatch.setenv("OUR_TOKEN", SECRET)
            found = opened(url, Ids(5, 6), token_env="OUR_TOKEN")
            assert found.access == Access.SCORES | Access.LISTS | Access.NEW_USERS
            read = found.open().score(np.arange(5)).numpy()
            expected = serve.Tables.load(tmp_path / "original-1").scores(range(5))
            np.testing.assert_allclose(read, expected, rtol=1e-12)
            with pytest.raises(ConfigurationError, match="status 401, not allowed; name the variable"):
                opened(url, Ids(5, 6))
        finally:
            process.terminate()


def test_the_reference_server_refuses_what_is_no_question(serve: ModuleType) -> None:
    import requests

    tables = serve.Tables(np.ones((2, 1)), np.ones((3, 1)))
    bad: list[tuple[str, Any]] = [
        ("scores", {"users": [2]}), ("scores", {"users": [True]}), ("scores", {}), ("scores", []),
        ("lists", {"users": [0], "k": 0}), ("fold-in", {"side": "user", "histories": [[]]}),
    ]  # fmt: skip
    made = serve.Server(("127.0.0.1", 0), {"a": tables}, access=["scores", "lists", "new-users"])
    with made, running(made) as url, requests.Session() as session:
        assert [session.post(f"{url}/a/{r}", json=b).status_code for r, b in bad] == [400] * len(bad)
        assert session.post(f"{url}/a/scores", data=b"{").status_code == 400
        lists = session.post(f"{url}/a/lists", json={"users": [1], "k": 2}).json()
        assert lists == {"items": [[0, 1]]}
        fresh = {"side": "item", "histories": [[0]]}
        assert session.post(f"{url}/a/fold-in", json=fresh).status_code == 404
        assert session.get(f"{url}/b").status_code == 404
