"""How systems are trained, selected and evaluated: what moves recall figures between papers, said in every report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from auditkit.contracts import Recipe
from auditkit.data.dataset import Dataset, Interactions
from auditkit.digests import canonical

Masked = Literal["train+valid", "train"]

_MASKS: Mapping[str, str] = {
    "train+valid": "retained training and validation pairs, the same for every system",
    "train": "retained training pairs, the same for every system; validation pairs stay in the ranking",
}
_EPOCHS: Mapping[str, str] = {
    "shuffle": "every training pair once, shuffled",
    "users": "as many users as pairs, drawn with replacement, and one of each one's pairs",
}
_POOLS: Mapping[str, str] = {
    "all": "one per pair, uniform over all items the user does not hold",
    "trained": "one per pair, uniform over the items with training pairs that the user does not hold",
}


@dataclass(frozen=True)
class Protocol:
    """The choices that a recall figure depends on beside the model.

    Attributes:
        recipe: how systems are trained and selected.
        split: how the data was split, in words.
        masked: pairs that leave the ranking at test: `train+valid`, or `train` alone as some papers do.
    """

    recipe: Recipe
    split: str = "given"
    masked: Masked = "train+valid"

    def mask(self, data: Dataset) -> list[Interactions]:
        """The pairs that are taken out of a ranking evaluated on test."""
        return [data.train, data.valid] if self.masked == "train+valid" else [data.train]

    def words(self) -> dict[str, str]:
        """Field of the report's protocol -> text."""
        fit, closed = self.recipe.fit, self.recipe.fit.engine == "closed-form"
        selected = fit.patience is not None and not closed
        stopping = f"Recall@20 every {fit.every} epochs, patience {fit.patience}"
        held = f"validation part, or where the data has none {fit.valid:g} of train by a hash of the pair"
        return {
            "split": self.split,
            "masked": _MASKS[self.masked],
            "selection_metric": stopping if selected else "none: the number of epochs is fixed",
            "selection_split": f"{held}; never test" if selected else "none; never test",
            "negatives": "not applicable" if closed else _POOLS[fit.negatives],
            "epoch": "not applicable" if closed else _EPOCHS[fit.sampler],
            "l2": f"{self.recipe.architecture().l2_form}, weight {fit.l2:g}",
            "procedure": self._procedure(),
        }

    def _procedure(self) -> str:
        trainer = self.recipe.trainer
        if trainer is None:
            return "plain: one model on all pairs"
        options = ", ".join(f"{name} {value}" for name, value in canonical(trainer).items() if name != "name")
        return f"trained by {trainer.name} ({options}); Golds and references alike"
