"""BERT and its structural twins: RoBERTa, XLM-RoBERTa, CamemBERT, ELECTRA."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from attattr_batch.engine.families._base import Batch
from attattr_batch.engine.families._layered import LayeredEncoder

MODEL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


class BertEncoder(LayeredEncoder):
    """Post-norm layers with `attention.self`, `attention.output` and `feed_forward_chunk`."""

    def __init__(self, model: PreTrainedModel):
        super().__init__(model)
        self._body = getattr(model, model.base_model_prefix)

    def embed(self, batch: Batch) -> Tensor:
        """Input of layer 0."""
        hidden = self._body.embeddings(input_ids=batch.input_ids, token_type_ids=batch.token_type_ids)
        if hasattr(self._body, "embeddings_project"):  # ELECTRA with narrow embeddings
            hidden = self._body.embeddings_project(hidden)
        return hidden

    def projections(self, layer: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        """The query, key and value projections of a layer."""
        attention = self._body.encoder.layer[layer].attention.self
        return attention.query, attention.key, attention.value

    def after_attention(self, layer: int, hidden: Tensor, context: Tensor) -> Tensor:
        """The rest of a layer."""
        block = self._body.encoder.layer[layer]
        return block.feed_forward_chunk(block.attention.output(context, hidden))

    def classify(self, hidden: Tensor) -> Tensor:
        """Class scores: BERT pools first, the others have a two-layer head."""
        if self.family == "bert":
            return self.model.classifier(self._body.pooler(hidden))
        return self.model.classifier(hidden)
