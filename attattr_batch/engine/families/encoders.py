"""The families on the fast path: BERT and its structural twins, DistilBERT, ALBERT."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from attattr_batch.engine.families._base import Batch
from attattr_batch.engine.families._layered import LayeredEncoder


class BertEncoder(LayeredEncoder):
    """BERT, RoBERTa, XLM-RoBERTa, CamemBERT and ELECTRA, whose layers have the same parts."""

    def embed(self, batch: Batch) -> Tensor:
        """Input of layer 0."""
        hidden = self.body.embeddings(input_ids=batch.input_ids, token_type_ids=batch.token_type_ids)
        if hasattr(self.body, "embeddings_project"):  # ELECTRA with narrow embeddings
            hidden = self.body.embeddings_project(hidden)
        return hidden

    def projections(self, layer: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        """The query, key and value projections of a layer."""
        attention = self.body.encoder.layer[layer].attention.self
        return attention.query, attention.key, attention.value

    def after_attention(self, layer: int, hidden: Tensor, context: Tensor) -> Tensor:
        """The rest of a layer."""
        block = self.body.encoder.layer[layer]
        return block.feed_forward_chunk(block.attention.output(context, hidden))

    def classify(self, hidden: Tensor) -> Tensor:
        """Class scores: BERT pools first, the others have a two-layer head."""
        if self.family == "bert":
            return self.model.classifier(self.body.pooler(hidden))
        return self.model.classifier(hidden)


class DistilBertEncoder(LayeredEncoder):
    """DistilBERT: no token types, and the output projection is part of the attention module."""

    def embed(self, batch: Batch) -> Tensor:
        """Input of layer 0."""
        return self.body.embeddings(batch.input_ids)

    def projections(self, layer: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        """The query, key and value projections of a layer."""
        attention = self.body.transformer.layer[layer].attention
        return attention.q_lin, attention.k_lin, attention.v_lin

    def after_attention(self, layer: int, hidden: Tensor, context: Tensor) -> Tensor:
        """The rest of a layer."""
        block = self.body.transformer.layer[layer]
        attended = block.sa_layer_norm(block.attention.out_lin(context) + hidden)
        return block.output_layer_norm(block.ffn(attended) + attended)

    def classify(self, hidden: Tensor) -> Tensor:
        """Class scores from the first token."""
        return self.model.classifier(self.model.pre_classifier(hidden[:, 0]).relu())


class AlbertEncoder(LayeredEncoder):
    """ALBERT, whose layers share weights; a layer here is one step of the unrolled stack."""

    def __init__(self, model: PreTrainedModel):
        super().__init__(model)
        groups, steps = self.body.encoder.albert_layer_groups, model.config.num_hidden_layers
        per_group = steps / model.config.num_hidden_groups
        self._blocks = [
            block for step in range(steps) for block in groups[int(step / per_group)].albert_layers
        ]

    def embed(self, batch: Batch) -> Tensor:
        """Input of layer 0."""
        hidden = self.body.embeddings(batch.input_ids, token_type_ids=batch.token_type_ids)
        return self.body.encoder.embedding_hidden_mapping_in(hidden)

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
        pooled = self.body.pooler_activation(self.body.pooler(hidden[:, 0]))
        return self.model.classifier(pooled)


FAST: dict[str, type[LayeredEncoder]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), BertEncoder),
    "distilbert": DistilBertEncoder,
    "albert": AlbertEncoder,
}
"""Families replayed from the layer itself, by transformers' `model_type`."""
