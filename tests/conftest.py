"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

# Before torch is loaded: its idle threads would else spin against the other worker's.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hypothesis
import pandas as pd
import pytest
import torch

from auditkit.builds import Workshop
from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest, select
from auditkit.store import Store

# The tensors of tests are tiny: a second thread costs more than it brings.
torch.set_num_threads(1)

# Other work on the machine must not fail a test: examples have no deadline.
hypothesis.settings.register_profile("auditkit", deadline=None, print_blob=True)
hypothesis.settings.load_profile("auditkit")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real data sets: $AUDITKIT_DATA, or `../shared/data` beside the repository."""
    root = Path(os.environ.get("AUDITKIT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data: {root} does not exist; set AUDITKIT_DATA")
    return root


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """120 users, 100 items, 4000 interactions, one modality: learnable, and trained in milliseconds."""
    return Dataset.synthetic(n_users=120, n_items=100, n_interactions=4000, features=("image",), width=4)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """BPR-MF with 8 factors, 10 epochs of compiled SGD."""
    return Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 10})


@pytest.fixture(scope="session")
def tiny_request(tiny: Dataset) -> DeletionRequest:
    """A fifth of the training interactions."""
    return select(tiny, "interaction", share=0.2)


@pytest.fixture
def shop(tiny: Dataset, tiny_request: DeletionRequest, tmp_path: Path) -> Workshop:
    """A workshop with an empty store of its own."""
    return Workshop(tiny, tiny_request, Store(tmp_path / "store"))


CONFIGURATION = """\
[data]
path = "data"

[request]
share = 0.2

[recipe]
backbone = "bpr-mf"
config = { factors = 16 }
fit = { epochs = 60 }

[audit]
profile = "quick"
golds = 4
references = 8

[policy]
margin = 0.5
"""


@pytest.fixture(scope="session")
def tiny_folder(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny data set as CSV files under data/, and a configuration for each of three verdicts.

    gold.toml PASSes, no-op.toml FAILs, output-mask.toml is INCONCLUSIVE. They share data, request and recipe.
    """
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "data").mkdir()
    for name in ("train", "valid", "test"):
        part = getattr(tiny, name)
        pd.DataFrame({"user": part.users, "item": part.items}).to_csv(folder / "data" / f"{name}.csv", index=False)
    for method in ("gold", "no-op", "output-mask"):
        (folder / f"{method}.toml").write_text(f'{CONFIGURATION}\n[[unlearner]]\nname = "{method}"\n', "utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the tests of the whole flow share: what one of them trained, the others read."""
    return tmp_path_factory.mktemp("store")
