"""Item extraction: after a licence is revoked, can the item still be reached, and by which path?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from auditkit.attacks.item_paths import BranchItemLists, ItemLists, ReinsertedItems, TwinNeighbours
from auditkit.attacks.top_lists import RareLinearAttack
from auditkit.contracts import Attack, Needs, Probe


@dataclass(frozen=True)
class ItemExtraction(RareLinearAttack):
    """The linear score of references on how often one path leads to the erased item; only above Gold is a finding.

    Paths: `full`, the share of users whose top-K list shows the item; the name of a branch (`id`, or a modality), the
    same through that branch alone; `twins`, the share of the items most like it (in content; without features by who
    holds them) whose nearest items by served vectors hold it; `reinsert`, the share of users who are shown the item
    offered again by its content, its own rows forgotten.

    Source: the requests for revoked licences of MMRecUn (arXiv 2405.15328), and the sites at which TRU (arXiv
    2604.02183) sees items persist: the item itself, single modalities, sensitive layers. *Reconstructed*: the paths are
    ours, and what is read is the excess over Gold, since content alone may honestly find an item.

    A note everywhere: `exposure` counts what is still recommended. A Gold that keeps the erased items as negatives
    reads other vectors than one that never saw them, and a branch that no score uses exposes nobody. Cannot see: below
    place K; caches and indexes outside the model; a retrained item of the same content under another id.

    Attributes:
        path: which one.
        k: length of the lists.
    """

    path: str = "full"
    k: int = 20
    name: ClassVar[str] = "item-extraction"
    needs: ClassVar[Needs] = Needs(references=4)
    one_sided: ClassVar[bool] = True
    reads: ClassVar[str] = "whether an erased item can still be reached by lists, by a single branch or by its likes"

    @classmethod
    def battery(cls) -> tuple[Attack, ...]:
        """Runs when it is named."""
        return ()

    @classmethod
    def variants(cls) -> tuple[Attack, ...]:
        """Every path; those through branches that a recommender has not are not applicable."""
        return tuple(cls(path) for path in ("full", "twins", "reinsert", "id", "image", "visual", "text"))

    @property
    def probes(self) -> tuple[Probe, ...]:
        """The path's own."""
        known: dict[str, Probe] = {
            "full": ItemLists(self.k), "twins": TwinNeighbours(k=self.k), "reinsert": ReinsertedItems(self.k)
        }  # fmt: skip
        return (known.get(self.path, BranchItemLists(self.path, self.k)),)

    @property
    def read_signal(self) -> str:
        """`hits`."""
        return "hits"
