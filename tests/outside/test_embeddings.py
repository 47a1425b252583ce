"""Embedding tables of others: scores and fresh accounts by hand and by our own models, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from auditkit.attacks.fold_in import FoldIn
from auditkit.contracts import Access, Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import select
from auditkit.errors import DataError, NotApplicableError
from auditkit.evidence import make_case
from auditkit.outside.checks import check_answers, check_form
from auditkit.outside.embeddings import EmbeddingTables, source
from auditkit.outside.source import Ids
from auditkit.probes import Lists, Pairs
from auditkit.requests import Names
from tests.outside.small_tables import IDS, N_ITEMS, N_USERS, WIDTH, tables, tensors, write

NAMED = Ids(
    N_USERS, N_ITEMS, Names(np.array([f"u{k}" for k in range(N_USERS)]), np.array([f"i{k}" for k in range(N_ITEMS)]))
)


def biases() -> dict[str, Any]:
    return {"user_bias": np.arange(N_USERS, dtype=np.float32), "item_bias": np.arange(N_ITEMS, dtype=np.float32) / 4}


@pytest.mark.parametrize("form", ["ours", "ours.safetensors", "ours.pt", "ours.pth"])
def test_scores_are_products_plus_biases_in_every_form(tmp_path: Path, form: str) -> None:
    arrays = tables(**biases())
    if form == "ours":
        write(tmp_path / form, arrays)
    elif form.endswith(".safetensors"):
        safetensors.torch.save_file(tensors(arrays), tmp_path / form)
    else:
        torch.save(tensors(arrays), tmp_path / form)
    found = source(form, IDS, {}, folder=tmp_path)
    assert found.text == f"embedding tables {form}"
    assert found.access == Access.LISTS | Access.SCORES | Access.NEW_USERS | Access.NEW_ITEMS
    assert len(found.digest) == 64
    model = found.open()
    assert (model.n_users, model.n_items) == (N_USERS, N_ITEMS)
    check_form(model, IDS, form)
    check_answers(model, IDS, form)
    users = np.array([4, 0])
    wanted = arrays["users"][users] @ arrays["items"].T + users[:, None] + np.arange(N_ITEMS) / 4
    np.testing.assert_allclose(model.score(users).numpy(), wanted, rtol=1e-5)


def test_a_fresh_entity_is_the_mean_of_what_it_was_told_and_has_no_bias(tmp_path: Path) -> None:
    arrays = tables(**biases())
    model = source(write(tmp_path / "ours", arrays).name, IDS, {}, folder=tmp_path).open()
    assert isinstance(model, EmbeddingTables)
    users, items = arrays["users"], arrays["items"]
    told = [np.array([1, 3]), np.array([0])]
    fresh = np.stack([items[[1, 3]].mean(0), items[0]]) @ items.T + np.arange(N_ITEMS) / 4
    np.testing.assert_allclose(model.fold_in(told).numpy(), fresh, rtol=1e-5)
    fresh = np.stack([users[[1, 3]].mean(0), users[0]]) @ users.T + np.arange(N_USERS)
    np.testing.assert_allclose(model.fold_in(told, side="item").numpy(), fresh, rtol=1e-5)
    assert np.isnan(model.fold_in([np.array([], np.int64)]).numpy()).all()


@pytest.mark.parametrize("regime", ["user", "item"])
def test_every_probe_reads_exported_tables_as_it_reads_the_model(tiny: Dataset, tmp_path: Path, regime: Any) -> None:
    own = Recipe.of("lightgcn", {"factors": 8}).model(tiny, 0)
    users, items = own.embed()
    write(tmp_path / "ours", {"users": users.detach().numpy(), "items": items.detach().numpy()})
    model = source("ours", Ids(tiny.n_users, tiny.n_items), {}, folder=tmp_path).open()
    case = make_case(tiny, select(tiny, regime, count=20), seed=0)
    for probe in (Pairs(), Lists(), FoldIn()):
        points = probe.points(case, rng=np.random.default_rng(0))
        mine, theirs = (probe.read(m, points, case, rng=np.random.default_rng(1)) for m in (own, model))
        assert any(np.isfinite(values).any() for values in mine.values())
        for name, values in mine.items():
            np.testing.assert_array_equal(theirs[name], values, err_msg=f"{probe.name}: {name}")


def test_cosine_ignores_lengths_and_zero_vectors_score_zero(tmp_path: Path) -> None:
    arrays = tables()
    arrays["items"][2] = 0
    plain = source(write(tmp_path / "plain", arrays).name, IDS, {"cosine": True}, folder=tmp_path).open()
    longer = {
        name: values * np.arange(1, len(values) + 1, dtype=np.float32)[:, None] for name, values in arrays.items()
    }
    other = source(write(tmp_path / "longer", longer).name, IDS, {"cosine": True}, folder=tmp_path).open()
    scores = plain.score(np.arange(N_USERS))
    torch.testing.assert_close(scores, other.score(np.arange(N_USERS)))
    assert float(scores.abs().max()) <= 1 + 1e-6
    assert (scores[:, 2] == 0).all()
    assert isinstance(plain, EmbeddingTables)
    # The mean of two directions is shorter than 1; its cosines are those of its direction.
    unit = arrays["items"] / np.maximum(np.linalg.norm(arrays["items"], axis=1, keepdims=True), 1e-9)
    mean = unit[[0, 1]].mean(0)
    fresh = plain.fold_in([np.array([0, 1])]).numpy()
    np.testing.assert_allclose(fresh[0], unit @ mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("stored", "served"),
    [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_half_precision_is_raised_and_the_rest_is_kept(tmp_path: Path, stored: str, served: str) -> None:
    kept = {name: values.to(getattr(torch, stored)) for name, values in tensors(tables()).items()}
    for name, save in (("a.safetensors", safetensors.torch.save_file), ("a.pt", torch.save)):
        save(kept, tmp_path / name)
        scores = source(name, IDS, {}, folder=tmp_path).open().score(np.array([1]))
        assert scores.dtype == getattr(torch, served)
        wanted = kept["users"][1].to(scores.dtype) @ kept["items"].to(scores.dtype).T
        torch.testing.assert_close(scores[0], wanted)


def test_arrays_of_other_layouts_and_byte_orders_read_the_same(tmp_path: Path) -> None:
    arrays = tables()
    other = {"users": np.asfortranarray(arrays["users"]), "items": arrays["items"].astype(">f4")}
    first, second = (
        source(write(tmp_path / name, these).name, IDS, {}, folder=tmp_path).open().score(np.arange(N_USERS))
        for name, these in (("plain", arrays), ("other", other))
    )
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("ids", [IDS, NAMED], ids=["numbers", "names"])
def test_rows_are_put_in_the_order_of_the_data(tmp_path: Path, ids: Ids) -> None:
    arrays, rng = tables(**biases()), np.random.default_rng(1)
    wanted = source(write(tmp_path / "plain", arrays).name, ids, {}, folder=tmp_path).open().score(np.arange(N_USERS))
    users, items = rng.permutation(N_USERS), rng.permutation(N_ITEMS)
    mixed = {
        "users": arrays["users"][users], "user_bias": arrays["user_bias"][users], "user_ids": ids.own_users(users),
        "items": arrays["items"][items], "item_bias": arrays["item_bias"][items], "item_ids": ids.own_items(items),
    }  # fmt: skip
    if ids is IDS:
        mixed |= {"user_ids": users.astype(np.uint16), "item_ids": items}
    write(tmp_path / "mixed", mixed)
    found = source("mixed", ids, {}, folder=tmp_path).open().score(np.arange(N_USERS))
    torch.testing.assert_close(found, wanted)
    # The same beside one file, as text that the file itself cannot hold.
    floats = {name: values for name, values in mixed.items() if not name.endswith("ids")}
    safetensors.torch.save_file(tensors(floats), tmp_path / "mixed" / "ours.safetensors")
    found = source("mixed/ours.safetensors", ids, {}, folder=tmp_path).open().score(np.arange(N_USERS))
    torch.testing.assert_close(found, wanted)


def test_padding_is_dropped_and_an_item_without_a_row_is_not_offered(tmp_path: Path) -> None:
    arrays = tables()
    padded = {
        "users": np.vstack([np.full((1, WIDTH), 9, np.float32), arrays["users"]]),
        "user_ids": np.array(["[PAD]", *NAMED.own_users(np.arange(N_USERS))]),
        "items": np.vstack([np.full((1, WIDTH), 9, np.float32), arrays["items"][[4, 0, 1, 3]]]),
        "item_ids": np.array(["[PAD]", "i4", "i0", "i1", "i3"]),
    }
    write(tmp_path / "ours", padded)
    model = source("ours", NAMED, {"ignore": ["[PAD]"]}, folder=tmp_path).open()
    scores = model.score(np.arange(N_USERS)).numpy()
    wanted = arrays["users"] @ arrays["items"].T
    wanted[:, 2] = np.nan
    np.testing.assert_allclose(scores, wanted, rtol=1e-5)
    # A told item that is not offered is passed over; a history of nothing else says nothing.
    assert isinstance(model, EmbeddingTables)
    fresh = model.fold_in([np.array([2, 3]), np.array([3]), np.array([2])]).numpy()
    np.testing.assert_array_equal(fresh[0], fresh[1])
    assert np.isnan(fresh[0]).tolist() == [False, False, True, False, False]
    assert np.isnan(fresh[2]).all()


def test_deleted_accounts_may_have_no_row_where_it_is_said(tmp_path: Path) -> None:
    arrays = tables()
    write(tmp_path / "ours", {**arrays, "users": arrays["users"][1:], "user_ids": np.arange(1, N_USERS)})
    with pytest.raises(
        DataError, match=r"1 of 6 users of the data have no row, such as '0'; add them, or say absent_u"
    ):
        source("ours", IDS, {}, folder=tmp_path)
    scores = source("ours", IDS, {"absent_users": True}, folder=tmp_path).open().score(np.arange(N_USERS)).numpy()
    assert np.isnan(scores[0]).all()
    np.testing.assert_allclose(scores[1:], arrays["users"][1:] @ arrays["items"].T, rtol=1e-5)


def test_a_checkpoint_of_other_names_and_inner_dictionaries(tmp_path: Path) -> None:
    arrays = tables()
    held = {
        "epoch": 3,
        "state_dict": {
            "user_embedding.weight": torch.nn.Parameter(torch.from_numpy(arrays["users"])),
            "item_embedding.weight": torch.from_numpy(arrays["items"]),
        },
    }
    torch.save(held, tmp_path / "model.pth")
    named = {"users": "state_dict.user_embedding.weight", "items": "state_dict.item_embedding.weight"}
    scores = source("model.pth", IDS, named, folder=tmp_path).open().score(np.array([2])).numpy()
    np.testing.assert_allclose(scores[0], arrays["items"] @ arrays["users"][2], rtol=1e-5)
    with pytest.raises(DataError, match=r"(?s)no array 'users'.*it holds 'state_dict.user_embedding.weight', 'state_d"):
        source("model.pth", IDS, {}, folder=tmp_path)


def test_the_digest_is_of_the_contents_and_of_how_they_are_read(tmp_path: Path) -> None:
    def digest(folder: str, options: dict[str, Any] | None = None, **arrays: Any) -> str:
        write(tmp_path / folder, tables(**arrays))
        return source(folder, IDS, options or {}, folder=tmp_path).digest

    same = digest("a")
    assert digest("b") == same
    assert digest("a", {"max_bytes": 10_000}) == same
    others = [digest("a", {"cosine": True}), digest("c", **biases()), digest("d", users=tables(1)["users"])]
    assert len({same, *others}) == 4


def test_files_that_change_during_an_audit_are_noticed(tmp_path: Path) -> None:
    found = source(write(tmp_path / "ours", tables()).name, IDS, {}, folder=tmp_path)
    found.open()
    write(tmp_path / "ours", tables(seed=1))
    with pytest.raises(
        DataError, match=r"ours has changed since the audit began; run the audit again on files that stay"
    ):
        found.open()


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    write(tmp_path / "ours", {
        "users": np.zeros((N_USERS, 2)), "items": np.zeros((N_ITEMS, 3), np.int64), "user_bias": np.zeros(4)
    })  # fmt: skip
    with pytest.raises(DataError, match=r"^3 problems:") as caught:
        source("ours", IDS, {}, folder=tmp_path)
    for text in ("items.npy must hold real numbers", "user_bias.npy must have one value", "users have 2 factors and"):
        assert text in str(caught.value)


def test_tables_have_no_branch() -> None:
    model = EmbeddingTables(torch.zeros(2, 1), torch.zeros(3, 1))
    with pytest.raises(NotApplicableError, match=r"embedding tables have no branch 'image'"):
        model.score(np.array([0]), branch="image")


def test_names_of_the_data_set_are_what_ids_are_matched_with(tmp_path: Path) -> None:
    arrays = tables(user_ids=np.arange(N_USERS))
    write(tmp_path / "ours", arrays)
    assert source("ours", IDS, {}, folder=tmp_path).open().n_users == N_USERS
    with pytest.raises(DataError, match=r"user_ids\.npy: 6 of 6 ids are not in the data, such as '0', '1', '2'"):
        source("ours", NAMED, {}, folder=tmp_path)
