"""What multimodal backbones share: item features as served, frozen or trained, with withdrawn rows imputed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from auditkit.architecture import Backbone
from auditkit.backbones.graph import Propagation
from auditkit.backbones.item_graph import members_apart, of_members
from auditkit.data.dataset import Dataset, Features
from auditkit.errors import ConfigurationError


class MultimodalBackbone(Backbone):
    """A backbone that reads the features of the data it is served over, one table per modality.

    `Config` has a field `trainable_features`: False keeps the raw features as they are; True makes each table a
    parameter `item_features_<modality>` that starts from them, as several published codes do. Trained tables can
    memorise interactions, so the choice matters to an audit.

    An item whose features are absent (`Features.present`) reads the mean of the present rows instead, of its own
    member's; where no row is present, zeros. Its own row, trained or not, is then never read.

    Attributes:
        modalities: of the data, sorted.
    """

    needs_features: ClassVar[bool] = True
    modalities: tuple[str, ...]

    def serve(self, data: Dataset) -> None:
        """Keep which rows are present, and the raw features where they are frozen; then `serve_graphs`.

        Raises:
            ConfigurationError: the data has no features.
        """
        if not data.features:
            raise ConfigurationError(
                f"{self.name} reads item features, but {data.name!r} has none; put <modality>_feat.npy beside the "
                f"interactions, or choose a backbone without content"
            )
        self.modalities = data.modalities
        for modality in self.modalities:
            features = data.features[modality]
            self.register_buffer(_present(modality), torch.from_numpy(features.present.copy()), persistent=False)
            if not self.config.trainable_features:
                values = torch.from_numpy(features.values.copy())
                raw = imputed(values, self.get_buffer(_present(modality)), self.members)
                self.register_buffer(f"raw_{modality}", raw, persistent=False)
        self.serve_graphs(data)

    @abstractmethod
    def serve_graphs(self, data: Dataset) -> None:
        """Build the graphs and other buffers from `data`."""

    def start_features(self) -> None:
        """Create the feature tables where they are trained; called in `start`."""
        if self.config.trainable_features:
            for modality in self.modalities:
                values = torch.from_numpy(self.data.features[modality].values.copy())
                start = imputed(values, self.get_buffer(_present(modality)), self.members)
                self.register_parameter(self.feature_name(modality), nn.Parameter(start))

    @staticmethod
    def feature_name(modality: str) -> str:
        """The parameter that holds a trained feature table."""
        return f"item_features_{modality}"

    def feature_names(self, modality: str) -> tuple[str, ...]:
        """The parameters of a modality's raw features: one where they are trained, else none."""
        return (self.feature_name(modality),) if self.config.trainable_features else ()

    def width(self, modality: str) -> int:
        """Columns of a modality's features."""
        return int(self.data.features[modality].values.shape[1])

    def item_features(self, modality: str) -> Tensor:
        """Features as served, float32 [n_items, width]; differentiable where they are trained."""
        if not self.config.trainable_features:
            return self.get_buffer(f"raw_{modality}")
        # Not get_parameter, which refuses what torch.func puts in a parameter's place.
        table: Tensor = getattr(self, self.feature_name(modality))
        return imputed(table, self.get_buffer(_present(modality)), self.members)

    def item_graph(self, modality: str, graph_of: Callable[[Features], csr_array]) -> Propagation:
        """An item-item operator of a modality, stacked members apart.

        Args:
            modality: of the data.
            graph_of: features of one member to its matrix, float64 [n_items, n_items].
        """
        parts = of_members(self.data.features[modality], self.members)
        return Propagation(members_apart([graph_of(part) for part in parts]))

    def of_each(self, table: Tensor) -> Sequence[Tensor]:
        """The members' parts of a table of users or of items."""
        return table.chunk(self.members)


def imputed(values: Tensor, present: Tensor, members: int = 1) -> Tensor:
    """`values` (float [members * n, width]) with absent rows replaced by the mean of the member's present ones.

    All present: `values` itself. None present: zeros.
    """
    if bool(present.all()):
        return values
    blocks, kept = values.view(members, -1, values.shape[-1]), present.view(members, -1, 1)
    # where, not a product: an absent row may hold anything, NaN too.
    zero = torch.zeros((), dtype=values.dtype, device=values.device)
    known = torch.where(kept, blocks, zero)
    mean = known.sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp_min(1)
    return torch.where(kept, blocks, mean).reshape(values.shape)


def _present(modality: str) -> str:
    return f"present_{modality}"
