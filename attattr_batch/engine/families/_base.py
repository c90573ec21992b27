"""What the attribution engine needs of a model: a traced clean forward pass, and replays from a layer upward.

Scaling every head of a layer by alpha scales its context vectors ctx = A V by alpha, because V does not
depend on A within the layer. So the engine never scales an attention matrix: it replays the model from
the layer's output projection with alpha * ctx, and differentiates F by ctx.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from attattr_batch.data.records import EncodedExample
from attattr_batch.errors import TerminalError

_SAME_LOGITS = 1e-3


@dataclass(frozen=True)
class Batch:
    """Rows of one forward pass, padded to the longest row and no further.

    Attributes:
        input_ids: Token ids.
        attention_mask: True for real tokens, False for padding.
        token_type_ids: Segment ids, or None for models without them.
        in_text: True for tokens of a text, False for special ones and padding.
        padded: Whether any row has padding.
    """

    input_ids: Int[Tensor, "row token"]
    attention_mask: Bool[Tensor, "row token"]
    token_type_ids: Int[Tensor, "row token"] | None
    in_text: Bool[Tensor, "row token"]
    padded: bool

    def model_inputs(self) -> dict[str, Tensor]:
        """The keyword arguments of a transformers model."""
        inputs = {"input_ids": self.input_ids, "attention_mask": self.attention_mask.long()}
        if self.token_type_ids is not None:
            inputs["token_type_ids"] = self.token_type_ids
        return inputs


def layers_run(config: Any) -> int:
    """Number of layers as they are run; ALBERT may run several in each of its `num_hidden_layers`."""
    return int(config.num_hidden_layers) * int(getattr(config, "inner_group_num", 1))


def collate(examples: Sequence[EncodedExample], pad_token_id: int, device: torch.device) -> Batch:
    """Pads examples to the longest of them and moves them to `device`."""
    sizes = [example.n_tokens for example in examples]
    lengths = torch.tensor(sizes)
    ids = [torch.tensor(example.input_ids) for example in examples]
    in_text = [torch.tensor([segment is not None for segment in one.segments]) for one in examples]
    columns = [
        pad_sequence(ids, batch_first=True, padding_value=pad_token_id),
        pad_sequence(in_text, batch_first=True).long(),
    ]
    attention_mask = torch.arange(columns[0].shape[1])[None, :] < lengths[:, None]
    if examples[0].token_type_ids is not None:
        types = [torch.tensor(example.token_type_ids) for example in examples]
        columns.append(pad_sequence(types, batch_first=True))
    # One copy to the device for all of them.
    moved = torch.stack([attention_mask.long(), *columns]).to(device, non_blocking=True)
    padded = min(sizes) < max(sizes)
    return Batch(
        input_ids=moved[1],
        attention_mask=moved[0].bool(),
        token_type_ids=moved[3] if len(moved) > 3 else None,
        in_text=moved[2].bool(),
        padded=padded,
    )


class Trace(ABC):
    """One clean forward pass over a batch, kept so that single layers can be inspected and replayed.

    Attributes:
        batch: The rows.
        logits: Class scores, attached to the graph of `contexts`.
        contexts: For each layer the context vectors ctx = A V, heads side by side, at those query positions
            that can reach the classifier: all of them, or only the first in the last layer of a model that
            classifies from the first token.
    """

    batch: Batch
    logits: Float[Tensor, "row label"]
    contexts: list[Float[Tensor, "row reach width"]]

    @abstractmethod
    def attention(
        self, layer: int
    ) -> tuple[Float[Tensor, "row head query key"], Float[Tensor, "row head key head_width"]]:
        """Returns the clean attention probabilities A and the values V of a layer."""

    @abstractmethod
    def replay(
        self, layer: int, rows: Int[Tensor, " replay"], context: Float[Tensor, "replay reach width"]
    ) -> Float[Tensor, "replay label"]:
        """Runs the model from `layer`'s output projection upward with the given context vectors.

        Args:
            layer: 0-based layer whose context vectors are replaced.
            rows: For every replay, its batch row.
            context: For every replay, its context vectors.
        """

    @abstractmethod
    def without_heads(
        self,
        first: int,
        rows: Int[Tensor, " replay"],
        head_mask: Bool[Tensor, "replay layer head"],
        means: Float[Tensor, "layer width"] | None = None,
    ) -> Float[Tensor, "replay label"]:
        """Runs the model with heads removed: their context vectors are zero, or the mean ones.

        Args:
            first: Lowest layer in which any replay removes a head; below it the clean forward pass is reused.
            rows: For every replay, its batch row.
            head_mask: For every replay, False for the heads to remove.
            means: What stands at every query in place of a removed head's context; None for zero.
        """


def remaining_context(
    context: Float[Tensor, "replay reach width"],
    head_mask: Bool[Tensor, "replay head"],
    mean: Float[Tensor, " width"] | None,
) -> Float[Tensor, "replay reach width"]:
    """The context vectors of a layer without the heads whose mask is False."""
    kept = head_mask[:, None, :, None]
    heads = context.unflatten(-1, (head_mask.shape[1], -1))
    if mean is None:
        return (heads * kept).flatten(2)
    return torch.where(kept, heads, mean.to(heads).unflatten(0, (head_mask.shape[1], -1))).flatten(2)


class Encoder(ABC):
    """A Transformer classifier, seen layer by layer.

    Attributes:
        model: The classifier, a `*ForSequenceClassification`.
        family: transformers' `model_type`, for example `bert`.
        n_layers: Number of layers.
        n_heads: Number of attention heads in each layer.
        n_labels: Number of classes.
        pad_token_id: Token id used for padding.
        device: Where the weights are.
    """

    def __init__(self, model: PreTrainedModel):
        self.model = model
        config = model.config
        self.family = config.model_type
        self.n_layers = layers_run(config)
        self.n_heads = config.num_attention_heads
        self.n_labels = config.num_labels
        self.pad_token_id = config.pad_token_id or 0
        self.device = model.device
        self._checked = False

    def trace(self, batch: Batch) -> Trace:
        """Runs the clean forward pass, keeping the graph from the context vectors to the logits.

        The first is compared with the model's own forward: an architecture may have changed.

        Raises:
            TerminalError: their class scores differ, or are not numbers.
        """
        trace = self._trace(batch)
        if not self._checked:
            own = self.logits(batch)
            difference = (own - trace.logits.detach()).abs().max().item()
            if not difference <= _SAME_LOGITS * max(1.0, own.abs().max().item()):
                raise TerminalError(
                    f"the traced forward of family {self.family!r} differs from the model's own by"
                    f" {difference:.2g}: this version of transformers has changed it, or the weights are"
                    " broken"
                )
            self._checked = True
        return trace

    @abstractmethod
    def _trace(self, batch: Batch) -> Trace:
        """Runs the clean forward pass."""

    @torch.no_grad()
    def logits(self, batch: Batch) -> Float[Tensor, "row label"]:
        """Class scores from the model's own unchanged forward, without gradients."""
        return self.model(**batch.model_inputs()).logits
