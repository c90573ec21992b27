"""Trains the tiny bundled classifiers so that the planted pair is what their first layer attends to.

Three things that pretraining gives a real model are given here by hand: related words start with related
embeddings; in the first steps one head is guided from the asked word of a pair to the other word; and the
first layer's attention is mostly kept to the words asked about. In addition the attention of a random layer
is scaled down in training, as integrated gradients does later, with the label moving to what it would be
without the pair; so the integration path is smooth and its start means "no interaction".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from bundled_grammar import ACTS, GOOD, GRAMMARS, HYPONYMS, POOR, QUALITIES, Place, Row, training_rows
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from transformers import BertConfig, BertForSequenceClassification

LAYERS = 4
STEPS = {"sst2": 1000, "mrpc": 1000, "rte": 1000, "mnli": 1400}
BATCH = 64
LEARNING_RATE = 7e-4
SMOOTHING = 0.1
GUIDED_SHARE = 0.4  # of the steps, with falling weight
SCALED_SHARE = 0.4  # of the rows of a batch
CLOSED_SHARE = 0.8  # of the rows whose first layer only the words asked about may use
INITIAL_RANGE = 0.08
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass
class Batch:
    """Rows as tensors; `asked` marks the words that may use the first layer, [row, token]."""

    inputs: dict[str, Tensor]
    gold: Tensor
    without: Tensor
    asked: Tensor
    pairs: list[tuple[int, int, int]]  # row, query, key


@dataclass
class Gates:
    """What the hooks multiply each layer's context by; `scale` [row, layer], `open` [row, token, 1]."""

    scale: Tensor
    open: Tensor


def token_place(row: Row, place: Place) -> int:
    """Returns the token position of a word, [CLS] being token 0 and every word one token."""
    text, word = place
    return 1 + word + (len(row.words[0]) + 1 if text else 0)


def token_ids(row: Row, vocabulary: dict[str, int]) -> list[int]:
    """Returns the token ids of a row with special tokens, as the bundled tokenizer gives them."""
    tokens = ["[CLS]"]
    for text in row.words:
        tokens += [*text, "[SEP]"]
    return [vocabulary[token] for token in tokens]


def train(task: str, vocabulary: dict[str, int], held_out: Sequence[Row]) -> BertForSequenceClassification:
    """Trains the model of one task; the same on every call on one machine."""
    torch.manual_seed(0)
    model = _new_model(task, vocabulary)
    rows = training_rows(task, frozenset(row.texts for row in held_out))
    gates = Gates(torch.ones(BATCH, LAYERS), torch.ones(BATCH, 1, 1))
    hooks = [
        layer.attention.self.register_forward_hook(_gate(gates, index))
        for index, layer in enumerate(model.bert.encoder.layer)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.1, betas=(0.9, 0.98))
    model.train()
    steps = STEPS[task]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(
            1, (step + 1) / 100, (steps - step) / (0.4 * steps)
        )
        loss = _loss(
            model,
            _batch(list(islice(rows, BATCH)), task, vocabulary),
            gates,
            1 - step / (GUIDED_SHARE * steps),
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    for hook in hooks:
        hook.remove()
    return model.eval()


def _new_model(task: str, vocabulary: dict[str, int]) -> BertForSequenceClassification:
    labels = GRAMMARS[task].labels
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.1,
        initializer_range=INITIAL_RANGE,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        attn_implementation="eager",
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        _relate(model.bert.embeddings.word_embeddings.weight, vocabulary)
    return model


def _relate(embeddings: Tensor, vocabulary: dict[str, int]) -> None:
    random = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.randn(embeddings.shape[1], generator=random) * INITIAL_RANGE

    for kind, words in HYPONYMS.items():
        base = draw()
        for word in (kind, *words):
            embeddings[vocabulary[word]] = base + 0.5 * draw()
    direction = draw()
    for first, second in QUALITIES + ACTS:
        base = draw()
        for sign, pole in ((1, first), (-1, second)):
            side = sign * direction + 0.3 * draw()
            for word in pole:
                embeddings[vocabulary[word]] = base + 0.5 * side + 0.3 * draw()


def _asked_words() -> frozenset[str]:
    nouns = {noun for kind, words in HYPONYMS.items() for noun in (kind, *words)}
    poles = {word for pair in QUALITIES + ACTS for pole in pair for word in pole}
    return frozenset({*GOOD, *POOR, *nouns, *poles})


_ASKED = _asked_words()


def _batch(rows: list[Row], task: str, vocabulary: dict[str, int]) -> Batch:
    labels = GRAMMARS[task].labels
    ids = [token_ids(row, vocabulary) for row in rows]
    width = max(map(len, ids))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
    last = torch.tensor([len(row.words[0]) + 1 if len(row.words) > 1 else 0 for row in rows])
    places = torch.arange(width)
    mask = (padded != 0).long()
    in_question = (places > last[:, None]).long() * mask
    types = in_question if len(rows[0].words) > 1 else torch.zeros_like(mask)
    askable = torch.tensor([float(word in _ASKED) for word in vocabulary])
    return Batch(
        inputs={"input_ids": padded, "token_type_ids": types, "attention_mask": mask},
        gold=torch.stack([_target(row.gold, labels) for row in rows]),
        without=torch.stack([_target(row.without, labels) for row in rows]),
        asked=askable[padded] * in_question,
        pairs=[
            (index, token_place(row, row.pair[1]), token_place(row, row.pair[0]))
            for index, row in enumerate(rows)
            if row.pair
        ],
    )


def _target(label: str | None, labels: Sequence[str]) -> Tensor:
    """Smoothed probabilities of a label; None is every label alike."""
    if label is None:
        return torch.full((len(labels),), 1 / len(labels))
    return one_hot(torch.tensor(labels.index(label)), len(labels)) * (1 - SMOOTHING) + SMOOTHING / len(labels)


def _gate(gates: Gates, layer: int) -> Any:
    def hook(module: torch.nn.Module, inputs: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        context = output[0] * gates.scale[:, layer, None, None]
        return (context * gates.open if layer == 0 else context, *output[1:])

    return hook


def _loss(model: BertForSequenceClassification, batch: Batch, gates: Gates, guide: float) -> Tensor:
    scaled = torch.rand(BATCH) < SCALED_SHARE
    # A third of the scaled rows get exactly 0, the start of the integration path.
    alpha = torch.where(scaled, (torch.rand(BATCH) * 1.5 - 0.5).clamp(min=0), 1.0)
    gates.scale = torch.ones(BATCH, LAYERS)
    gates.scale[torch.arange(BATCH), torch.randint(LAYERS, (BATCH,))] = alpha
    everyone = (torch.rand(BATCH, 1, 1) > CLOSED_SHARE).float()
    gates.open = torch.maximum(everyone, batch.asked[:, :, None])
    output = model(**batch.inputs, output_attentions=guide > 0)
    first = gates.scale[:, :1]
    loss = cross_entropy(output.logits, first * batch.gold + (1 - first) * batch.without)
    if guide > 0:
        row, query, key = torch.tensor(batch.pairs).T
        loss = loss - guide * (output.attentions[0][row, 0, query, key] + 1e-6).log().mean()
    return loss
