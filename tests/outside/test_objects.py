"""Objects that a function of the owner's makes: how it is found, called, checked and known again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auditkit.attacks.fold_in import FoldIn
from auditkit.contracts import Access, Backbone
from auditkit.data.dataset import Dataset
from auditkit.deletion import select
from auditkit.errors import ConfigurationError, DataError, NotApplicableError
from auditkit.evidence import make_case
from auditkit.outside.checks import check_users, same_scores
from auditkit.outside.objects import Served, ServedAnew, TorchRecommender, source
from auditkit.outside.source import Ids
from auditkit.probes import Lists, Pairs

IDS = Ids(6, 5)
HEAD = """
import numpy as np
import torch

TABLE = torch.arange(30.0).reshape(6, 5).sin()

class Ours:
    n_users, n_items = 6, 5
    def score(self, users, *, branch=None):
        return TABLE[torch.as_tensor(users)]
"""
PLAIN = Access.LISTS | Access.SCORES
FRESH = Access.NEW_USERS | Access.NEW_ITEMS


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder of a configuration; what is imported from it is forgotten afterwards."""
    before, known = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def module(home: Path, text: str, name: str = "their_models") -> Path:
    (home / f"{name}.py").write_text(HEAD + text, encoding="utf-8")
    return home


def opened(home: Path, text: str, options: dict[str, Any] | None = None) -> Any:
    return source("their_models:load", IDS, options or {}, folder=module(home, text)).open()


def test_a_function_beside_the_configuration(home: Path) -> None:
    found = source("their_models:load", IDS, {}, folder=module(home, "def load(): return Ours()"))
    assert (found.text, found.digest, found.access) == ("function their_models:load", "", PLAIN)
    table = torch.arange(30.0).reshape(6, 5).sin()
    torch.testing.assert_close(found.open().score(np.array([4, 1])), table[[4, 1]])
    assert not hasattr(found.open(), "fold_in")
    assert sys.path[-1] == str(home.resolve())


def test_the_class_itself_a_module_of_a_package_and_an_installed_one(home: Path) -> None:
    module(home, "")
    assert source("their_models:Ours", IDS, {}, folder=home).open().n_users == 6
    (home / "their_package").mkdir()
    module(home / "their_package", "def load(): return Ours()", "inner")
    assert source("their_package.inner:load", IDS, {}, folder=home).open().n_items == 5
    tables = "auditkit.outside.embeddings:EmbeddingTables"
    with pytest.raises(ConfigurationError, match=r"EmbeddingTables needs the arguments users, items; it may take one"):
        source(tables, IDS, {}, folder=home)


def test_a_function_is_told_the_systems_name_and_every_system_is_its_own(home: Path) -> None:
    text = """
def load(system):
    made = Ours()
    made.score = lambda users, branch=None: TABLE[torch.as_tensor(users)] + len(system)
    return made
"""
    module(home, text)
    found = {
        name: source("their_models:load", IDS, {"system": name}, folder=home) for name in ("gold-1", "reference-12")
    }
    assert [s.text for s in found.values()] == [
        "function their_models:load (gold-1)", "function their_models:load (reference-12)"
    ]  # fmt: skip
    first, second = (s.open().score(np.array([0])) for s in found.values())
    torch.testing.assert_close(second - first, torch.full((1, 5), 6.0))


@pytest.mark.parametrize(
    ("function", "system", "added"),
    [
        ("def load(system='x'): return Named(system)", "", 1),
        ("def load(system='x'): return Named(system)", "gold", 4),
        ("def load(*names): return Named(*names)", "gold", 4),
        ("load = lambda *, copy=False: Named('')", "", 0),
    ],
)
def test_arguments_with_defaults(home: Path, function: str, system: str, added: int) -> None:
    named = """
class Named(Ours):
    def __init__(self, name):
        self.name = name
    def score(self, users, *, branch=None):
        return super().score(users) + len(self.name)
"""
    scores = opened(home, named + function, {"system": system}).score(np.array([0]))
    torch.testing.assert_close(scores, torch.arange(5.0)[None].sin() + added)


def test_numpy_answers_and_gradients_become_plain_tensors(home: Path) -> None:
    text = """
WEIGHT = torch.nn.Parameter(TABLE)
class Arrays(Ours):
    table = TABLE.numpy().astype('>f8')
    def score(self, users, *, branch=None):
        return self.table[users]
    def fold_in(self, histories, *, side="user"):
        return np.zeros((len(histories), 5 if side == "user" else 6), np.float32)
class Learned(Ours):
    def score(self, users, *, branch=None):
        return WEIGHT[torch.as_tensor(users)]
"""
    module(home, text)
    arrays = source("their_models:Arrays", IDS, {}, folder=home)
    assert arrays.access == PLAIN | FRESH
    model = arrays.open()
    assert isinstance(model, ServedAnew)
    scores = model.score(np.array([1, 0]))
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, torch.arange(10.0).reshape(2, 5).flip(0).sin().double())
    assert model.fold_in([np.array([0])], side="item").shape == (1, 6)
    learned = source("their_models:Learned", IDS, {}, folder=home).open().score(np.array([3]))
    assert not learned.requires_grad
    assert type(source("their_models:Learned", IDS, {}, folder=home).open()) is Served


class Whole:
    """Everybody's scores, as they lie in its own table."""

    n_users, n_items = 6, 5

    def __init__(self) -> None:
        self.table = np.zeros((6, 5))

    def score(self, users: Any) -> Any:
        return self.table


def test_an_answer_is_a_copy_of_the_owners_table() -> None:
    owner = Whole()
    scores = Served(owner).score(np.arange(6))
    scores[:] = torch.nan
    assert (owner.table == 0).all()
    # A table that was mapped for reading alone is answered from without a warning.
    owner.table.setflags(write=False)
    assert Served(owner).score(np.arange(6)).shape == (6, 5)


def test_branches_are_passed_on(home: Path) -> None:
    text = """
class Branched(Ours):
    branches = {"image": ()}
    def score(self, users, *, branch=None):
        return super().score(users) * (2 if branch == "image" else 1)
def load(): return Branched()
"""
    model = opened(home, text)
    assert "image" in model.branches
    torch.testing.assert_close(model.score(np.array([2]), branch="image"), 2 * model.score(np.array([2])))


def test_items_that_are_not_offered_and_users_who_are_not_served(home: Path) -> None:
    text = """
class Partly(Ours):
    def score(self, users, *, branch=None):
        scores = super().score(users).clone()
        scores[:, 1] = torch.nan
        scores[torch.as_tensor(users) == 0] = torch.nan
        return scores
def load(): return Partly()
"""
    scores = opened(home, text).score(np.arange(6))
    assert torch.isnan(scores).sum() == 5 + 5


def test_a_side_that_takes_nobody_new_is_no_error(home: Path) -> None:
    text = """
from auditkit.errors import NotApplicableError
class OneSide(Ours):
    refused = ("item",)
    def fold_in(self, histories, *, side="user"):
        if side in self.refused:
            raise NotApplicableError(f"no new {side}s")
        return torch.zeros(len(histories), 5)
class NoSide(OneSide):
    refused = ("user", "item")
"""
    module(home, text)
    assert source("their_models:OneSide", IDS, {}, folder=home).access == PLAIN | Access.NEW_USERS
    model: Any = source("their_models:OneSide", IDS, {}, folder=home).open()
    with pytest.raises(NotApplicableError, match="no new items"):
        model.fold_in([np.array([0])], side="item")
    assert source("their_models:NoSide", IDS, {}, folder=home).access == PLAIN


OWN = """
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset

def data():
    return Dataset.synthetic(n_users=120, n_items=100, n_interactions=4000, features=("image",), width=4)

def load():
    return Recipe.of("lightgcn", {"factors": 8}).model(data(), 0)

class Behind:
    n_users, n_items = 120, 100
    def __init__(self):
        self.model = load()
    def score(self, users, *, branch=None):
        return self.model.score(users).numpy()
    def fold_in(self, histories, *, side="user"):
        return self.model.fold_in(histories, side=side).numpy()

class Masked(Behind):
    @property
    def backbones(self):
        return (self.model,)
    def score(self, users, *, branch=None):
        return self.model.score(users)
    def fold_in(self, histories, *, side="user"):
        return self.model.fold_in(histories, side=side)
"""


def test_our_own_models_keep_their_weights_and_others_are_read_alike(home: Path, tiny: Dataset) -> None:
    module(home, OWN)
    ids = Ids(tiny.n_users, tiny.n_items)
    own, masked, behind = (
        source(f"their_models:{name}", ids, {}, folder=home) for name in ("load", "Masked", "Behind")
    )
    assert own.access == masked.access == PLAIN | FRESH | Access.WEIGHTS
    assert behind.access == PLAIN | FRESH
    model = own.open()
    assert isinstance(model, Backbone)
    assert hasattr(masked.open(), "backbones")
    case = make_case(tiny, select(tiny, "user", count=20), seed=0)
    for probe in (Pairs(), Lists(), FoldIn()):
        points = probe.points(case, rng=np.random.default_rng(0))
        mine, theirs = (probe.read(m, points, case, rng=np.random.default_rng(1)) for m in (model, behind.open()))
        for name, values in mine.items():
            np.testing.assert_array_equal(theirs[name], values, err_msg=f"{probe.name}: {name}")


def test_another_system_each_time_is_noticed_when_it_is_opened(home: Path) -> None:
    text = """
CALLS = []
def load():
    CALLS.append(0)
    made, call = Ours(), len(CALLS)
    made.score = lambda users, branch=None: TABLE[torch.as_tensor(users)] * call
    return made
"""
    found = source("their_models:load", IDS, {}, folder=module(home, text))
    with pytest.raises(DataError, match=r"what their_models:load returned is another system than before; it must load"):
        found.open()


def test_a_file_beside_the_configuration_replaces_nothing(home: Path) -> None:
    # The name of a package that is imported already, and one of a package that is installed only.
    for name in ("pandas", "jsonschema"):
        module(home, "def load(): return Ours()", name)
        with pytest.raises(
            ConfigurationError, match=rf"two modules are called '{name}'.* was imported, not .*; rename"
        ):
            source(f"{name}:load", IDS, {}, folder=home)


def test_the_users_asked_are_spread_over_all() -> None:
    assert check_users(1).tolist() == [0]
    assert check_users(3).tolist() == [0, 1, 2]
    assert check_users(1000).tolist() == [0, 142, 285, 428, 570, 713, 856, 999]


@pytest.mark.parametrize(
    ("dtype", "change", "same"),
    [
        (torch.float32, 0.0, True), (torch.float32, 1e-6, True), (torch.float32, 0.1, False),
        (torch.float16, 1e-3, True), (torch.float16, 0.3, False), (torch.bfloat16, 1e-2, True),
    ],
)  # fmt: skip
def test_rounding_is_no_difference(dtype: torch.dtype, change: float, same: bool) -> None:
    scores = torch.linspace(-1, 1, 40, dtype=torch.float64).reshape(2, 20)
    changed = scores.clone()
    changed[1, 3] += change
    assert same_scores(scores.to(dtype), changed.to(dtype)) is same


def test_an_item_that_comes_and_goes_is_a_difference() -> None:
    scores = torch.arange(6.0).reshape(2, 3)
    gone = scores.clone()
    gone[0, 1] = torch.nan
    assert not same_scores(scores, gone)
    assert not same_scores(gone, scores)
    assert same_scores(gone, gone.clone())


def test_a_torch_module_by_way_of_a_function(home: Path) -> None:
    text = """
from auditkit.outside.objects import TorchRecommender
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.users, self.items = (torch.nn.Embedding(n, 4, _weight=torch.ones(n, 4).cumsum(0)) for n in (6, 5))
        self.drop = torch.nn.Dropout(0.5)
    def forward(self, users, items):
        return (self.drop(self.users(users)) * self.items(items)).sum(-1)
def load(): return TorchRecommender(Net(), 6, 5, call="pairs")
"""
    model = opened(home, text)
    assert isinstance(model.model, TorchRecommender)
    torch.testing.assert_close(model.score(np.array([2])), 12 * torch.arange(1.0, 6)[None])
