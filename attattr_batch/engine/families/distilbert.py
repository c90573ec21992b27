"""DistilBERT."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from attattr_batch.engine.families._base import Batch
from attattr_batch.engine.families._layered import LayeredEncoder

MODEL_TYPES = ("distilbert",)


class DistilBertEncoder(LayeredEncoder):
    """No token types; the output projection lies inside the attention module."""

    def __init__(self, model: PreTrainedModel):
        super().__init__(model)
        self._body = model.distilbert

    def embed(self, batch: Batch) -> Tensor:
        """Input of layer 0."""
        return self._body.embeddings(batch.input_ids)

    def projections(self, layer: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        """The query, key and value projections of a layer."""
        attention = self._body.transformer.layer[layer].attention
        return attention.q_lin, attention.k_lin, attention.v_lin

    def after_attention(self, layer: int, hidden: Tensor, context: Tensor) -> Tensor:
        """The rest of a layer."""
        block = self._body.transformer.layer[layer]
        attended = block.sa_layer_norm(block.attention.out_lin(context) + hidden)
        return block.output_layer_norm(block.ffn(attended) + attended)

    def classify(self, hidden: Tensor) -> Tensor:
        """Class scores from the first token."""
        return self.model.classifier(self.model.pre_classifier(hidden[:, 0]).relu())
