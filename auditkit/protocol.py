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
# What a recall figure of theirs depends on is not in what was given.
_ELSEWHERE = "not known: all systems were made elsewhere"


@dataclass(frozen=True)
class Protocol:
    """The choices that a recall figure depends on beside the model.

    Attributes:
        recipe: how systems are trained and selected; None where all were made elsewhere.
        split: how the data was split, in words.
        masked: pairs that leave the ranking at test: `train+valid`, or `train` alone as some papers do.
    """

    recipe: Recipe | None
    split: str = "given"
    masked: Masked = "train+valid"

    def mask(self, data: Dataset) -> list[Interactions]:
        """The pairs that are taken out of a ranking evaluated on test."""
        return [data.train, data.valid] if self.masked == "train+valid" else [data.train]

    def words(self) -> dict[str, str]:
        """Field of the report's protocol -> text."""
        if self.recipe is None:
            fields = ("selection_metric", "selection_split", "negatives", "epoch", "l2", "procedure")
            return {"split": self.split, "masked": _MASKS[self.masked], **dict.fromkeys(fields, _ELSEWHERE)}
        return self._trained_here(self.recipe)

    def _trained_here(self, recipe: Recipe) -> dict[str, str]:
        fit, closed = recipe.fit, recipe.fit.engine == "closed-form"
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
            "l2": f"{recipe.architecture().l2_form}, weight {fit.l2:g}",
            "procedure": _procedure(recipe),
        }


def _procedure(recipe: Recipe) -> str:
    trainer = recipe.trainer
    if trainer is None:
        return "plain: one model on all pairs"
    options = ", ".join(f"{name} {value}" for name, value in canonical(trainer).items() if name != "name")
    return f"trained by {trainer.name} ({options}); Golds and references alike"
