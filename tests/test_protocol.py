from __future__ import annotations

import numpy as np
import pytest

from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset
from auditkit.protocol import Protocol
from auditkit.utility import evaluate


def test_what_is_masked_moves_recall() -> None:
    """With the validation pairs left in the ranking they take places from test pairs."""
    data = Dataset.synthetic(n_users=60, n_items=40, n_interactions=1_200, clusters=4, features=(), seed=1)
    assert len(data.valid)
    recipe = Recipe.of("bpr-mf", {"factors": 8}, {"epochs": 40})
    model = recipe.architecture().fit([(data, 0)], recipe, device="cpu")[0]
    both, train = (Protocol(recipe, masked=m).mask(data) for m in ("train+valid", "train"))
    assert sum(map(len, both)) == len(data.train) + len(data.valid)
    assert sum(map(len, train)) == len(data.train)
    recalls = [evaluate(model, data.test, mask, ks=(20,)).mean()["recall@20"] for mask in (both, train)]
    assert recalls[0] > recalls[1]


@pytest.mark.parametrize(
    ("backbone", "fit", "expected"),
    [
        ("bpr-mf", {}, {"selection_split": "none; never test", "epoch": "every training pair once, shuffled"}),
        (
            "lightgcn",
            {"patience": 4, "every": 3, "negatives": "trained", "l2": 0.5},
            {"selection_metric": "Recall@20 every 3 epochs, patience 4", "negatives": "items with training pairs"},
        ),
        ("ease", {"patience": 4}, {"selection_metric": "none", "negatives": "not applicable"}),
    ],
)
def test_words_follow_the_recipe(backbone: str, fit: dict[str, object], expected: dict[str, str]) -> None:
    recipe = Recipe.of(backbone, None, fit)
    words = Protocol(recipe, "as given", "train").words()
    fields = {"split", "masked", "selection_metric", "selection_split", "negatives", "epoch", "l2", "procedure"}
    assert set(words) == fields
    assert words["procedure"] == "plain: one model on all pairs"
    for field, text in expected.items():
        assert text in words[field]
    assert words["l2"].endswith(f"weight {recipe.fit.l2:g}")
    assert "never test" in words["selection_split"]
    assert "validation pairs stay" in words["masked"]


def test_nothing_is_selected_on_test() -> None:
    """Other test pairs, same model, bit for bit, although training stops early."""
    data = Dataset.synthetic(n_users=30, n_items=20, n_interactions=300, clusters=3, features=(), seed=0)
    other = Dataset(data.name, 30, 20, data.train, data.valid)
    recipe = Recipe.of("lightgcn", {"factors": 4}, {"epochs": 12, "patience": 1, "every": 1, "batch": 64})
    models = [recipe.architecture().fit([(d, 0)], recipe, device="cpu")[0] for d in (data, other)]
    users = np.arange(30)
    assert np.array_equal(models[0].score(users).numpy(), models[1].score(users).numpy())
