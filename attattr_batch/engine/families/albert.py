"""ALBERT: layers share weights within groups, embeddings are narrower than the layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from attattr_batch.engine.families._base import Batch
from attattr_batch.engine.families._layered import LayeredEncoder

MODEL_TYPES = ("albert",)


class AlbertEncoder(LayeredEncoder):
    """A layer index here is a step of the unrolled stack, whatever weights it shares."""

    def __init__(self, model: PreTrainedModel):
        super().__init__(model)
        self._body = model.albert
        stack = self._body.encoder
        config = model.config
        per_group = config.num_hidden_layers / config.num_hidden_groups
        self._blocks: list[Any] = []
        for step in range(config.num_hidden_layers):
            self._blocks.extend(stack.albert_layer_groups[int(step / per_group)].albert_layers)

    def embed(self, batch: Batch) -> Tensor:
        """Input of layer 0."""
        hidden = self._body.embeddings(batch.input_ids, token_type_ids=batch.token_type_ids)
        return self._body.encoder.embedding_hidden_mapping_in(hidden)

    def projections(self, layer: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        """The query, key and value projections of a layer."""
        attention = self._blocks[layer].attention
        return attention.query, attention.key, attention.value

    def after_attention(self, layer: int, hidden: Tensor, context: Tensor) -> Tensor:
        """The rest of a layer."""
        block = self._blocks[layer]
        attended = block.attention.LayerNorm(hidden + block.attention.dense(context))
        return block.full_layer_layer_norm(block.ff_chunk(attended) + attended)

    def classify(self, hidden: Tensor) -> Tensor:
        """Class scores from the pooled first token."""
        pooled = self._body.pooler_activation(self._body.pooler(hidden[:, 0]))
        return self.model.classifier(pooled)
