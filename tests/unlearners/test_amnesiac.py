from __future__ import annotations

import numpy as np
import pytest
import torch

from auditkit.backbones.bpr_mf import BPRMF
from auditkit.data.dataset import Ints
from auditkit.errors import ConfigurationError
from auditkit.testing import UnlearnerTests
from auditkit.testing.examples import small_data, small_request
from auditkit.testing.unlearners import forget_margin
from auditkit.unlearners.amnesiac import Amnesiac, Relabelled
from auditkit.unlearners.finetune import Finetune

_N_ITEMS = 40


class TestAmnesiac(UnlearnerTests):
    unlearner = Amnesiac(epochs=2, batch=256)
    one_step = Amnesiac(epochs=1, batch=10**6)
    utility_band = (0.6, 1.2)

    def relabelled(self, seed: int = 3) -> Relabelled:
        return Relabelled.of(self.task(small_request("interaction")), 100, np.random.default_rng(seed))

    def test_an_epoch_holds_every_retained_pair_and_every_forgotten_one_turned_round(self) -> None:
        task = self.task(small_request("interaction"))
        users, positives, negatives = _joined(self.relabelled().epoch(np.random.default_rng(0)))
        of_retained = np.isin(users * _N_ITEMS + positives, task.retain.train.codes(_N_ITEMS))
        retained, turned = (
            (users * _N_ITEMS + items)[rows] for items, rows in ((positives, of_retained), (negatives, ~of_retained))
        )
        assert np.array_equal(np.sort(retained), np.sort(task.retain.train.codes(_N_ITEMS)))
        assert np.array_equal(np.sort(turned), np.sort(task.forget.codes(_N_ITEMS)))

    def test_both_kinds_are_mixed_in_batches_of_the_size(self) -> None:
        task, batches = self.task(small_request("interaction")), self.relabelled().epoch(np.random.default_rng(0))
        assert [len(users) for users, _, _ in batches[:-1]] == [100] * (len(batches) - 1)
        forgotten = [np.isin(u * _N_ITEMS + j, task.forget.codes(_N_ITEMS)).sum() for u, _, j in batches]
        assert min(forgotten[:-1]) > 0

    def test_labels_were_never_held_and_stay_from_epoch_to_epoch(self) -> None:
        task, batches = self.task(small_request("interaction")), self.relabelled()
        users, labels, _ = batches.forgotten
        assert not np.isin(users * _N_ITEMS + labels, task.data.train.codes(_N_ITEMS)).any()
        rng, found = np.random.default_rng(0), []
        for _ in range(2):
            u, i, j = _joined(batches.epoch(rng))
            rows = np.isin(u * _N_ITEMS + j, task.forget.codes(_N_ITEMS)) & ~np.isin(
                u * _N_ITEMS + i, task.retain.train.codes(_N_ITEMS)
            )
            found.append(sorted(zip(u[rows], i[rows], j[rows], strict=True)))
        assert found[0] == found[1]
        assert len(set(labels)) > 10

    def test_it_forgets_more_than_fine_tuning(self) -> None:
        task = self.task(small_request("interaction"))
        relabelled, tuned = (
            forget_margin(self.run(task, unlearner=method(epochs=5, learning_rate=4e-3, batch=256)), task)
            for method in (Amnesiac, Finetune)
        )
        assert relabelled < tuned - 0.1

    def test_negatives_come_from_trained_items_where_the_parent_s_did(self) -> None:
        class OnVBPR(TestAmnesiacOfVBPR):
            fit = {"epochs": 1, "negatives": "trained"}  # noqa: RUF012

        task = OnVBPR().task(small_request("item"))
        batches = Relabelled.of(task, 100, np.random.default_rng(0))
        assert not np.isin(batches.forgotten[1], small_request("item").items).any()
        everything = _joined(batches.epoch(np.random.default_rng(0)))
        retained = everything[:, np.isin(everything[1], task.retain.train.items)]
        gone = np.isin(retained[2], small_request("item").items)
        assert gone.sum() == len(task.forget)


def _joined(batches: list[tuple[Ints, Ints, Ints]]) -> Ints:
    return np.concatenate([np.stack(batch) for batch in batches], axis=1)


class TestAmnesiacOfLightGCN(UnlearnerTests):
    unlearner = Amnesiac(epochs=1)
    one_step = Amnesiac(epochs=1, batch=10**6)
    backbone = "lightgcn"
    config = {"factors": 8, "layers": 2}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02}  # noqa: RUF012
    utility_band = None


class TestAmnesiacOfVBPR(UnlearnerTests):
    unlearner = Amnesiac(epochs=1, batch=256)
    backbone = "vbpr"
    config = {"factors": 4}  # noqa: RUF012
    fit = {"epochs": 3, "learning_rate": 0.02, "batch": 256}  # noqa: RUF012
    utility_band = None


def test_a_request_for_nothing_is_fine_tuning_in_another_order() -> None:
    case = TestAmnesiac()
    task = case.task(small_request("interaction"), np.empty(0, np.int64))
    batches = Relabelled.of(task, 10**6, np.random.default_rng(0))
    ((users, positives, _),) = batches.epoch(np.random.default_rng(0))
    assert np.array_equal(np.sort(users * _N_ITEMS + positives), np.sort(small_data().train.codes(_N_ITEMS)))


def test_one_step_is_adam_s_on_the_mean_loss_of_both_kinds() -> None:
    """Adam's first step is the learning rate against the gradient's sign: here of one loss over all triples."""
    case, one_step = TestAmnesiac(), Amnesiac(epochs=1, batch=10**6, learning_rate=1e-3)
    task = case.task(small_request("interaction"))
    parent, served = case.parent(task), case.run(task, unlearner=one_step)
    assert isinstance(parent, BPRMF)
    assert isinstance(served, BPRMF)
    rng = np.random.default_rng(5)
    batches = Relabelled.of(task, 10**6, rng)
    ((users, positives, negatives),) = batches.epoch(rng)
    u, i, j = (torch.from_numpy(ids) for ids in (users, positives, negatives))
    p, q, r = parent.user_table[u], parent.item_table[i], parent.item_table[j]
    margin = torch.log1p(torch.exp(-(p * (q - r)).sum(1)))
    norms = (p * p + q * q + r * r).sum(1)
    loss = (margin + 0.5 * task.recipe.fit.l2 * norms).mean()
    slope = torch.autograd.grad(loss, parent.user_table)[0]
    moved = served.user_table.detach() - parent.user_table.detach()
    clear = slope.abs() > 1e-5
    assert clear.float().mean() > 0.9
    torch.testing.assert_close(moved[clear], -1e-3 * slope[clear].sign(), rtol=2e-2, atol=0)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch": 0}, {"learning_rate": 0.0}])
def test_domains(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="must be 1 or more"):
        Amnesiac(**options)  # type: ignore[arg-type]
