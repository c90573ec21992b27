"""Tiny random classifiers, one of each kind of encoder: made here, never downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ErnieConfig,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from attattr_batch.data.records import EncodedExample
from attattr_batch.engine.families import Batch, collate

VOCABULARY = 50
LENGTHS = (9, 5, 12)
"""Tokens of the rows of `batch()`: with padding, and longer than ModernBERT's window."""

_STACK = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4}
_SIZES = {**_STACK, "intermediate_size": 24, "max_position_embeddings": 40}
# Larger weights than a fresh model's: attention is far from uniform, and F(alpha) far from flat.
_SPREAD = {"initializer_range": 0.35, "num_labels": 3, "pad_token_id": 1}


def _bert() -> PretrainedConfig:
    return BertConfig(**_SIZES, **_SPREAD)


def _roberta() -> PretrainedConfig:
    return RobertaConfig(**_SIZES, **_SPREAD, type_vocab_size=1)


def _xlm_roberta() -> PretrainedConfig:
    return XLMRobertaConfig(**_SIZES, **_SPREAD, type_vocab_size=1)


def _camembert() -> PretrainedConfig:
    return CamembertConfig(**_SIZES, **_SPREAD, type_vocab_size=1)


def _electra() -> PretrainedConfig:
    return ElectraConfig(**_SIZES, **_SPREAD, embedding_size=16)


def _electra_narrow() -> PretrainedConfig:
    return ElectraConfig(**_SIZES, **_SPREAD, embedding_size=8)


def _distilbert() -> PretrainedConfig:
    return DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=16,
        n_layers=3,
        n_heads=4,
        hidden_dim=24,
        max_position_embeddings=40,
        **_SPREAD,
    )


def _albert() -> PretrainedConfig:
    return AlbertConfig(**_SIZES, **_SPREAD, embedding_size=8, num_hidden_groups=2)


def _albert_inner() -> PretrainedConfig:
    return AlbertConfig(**{**_SIZES, "num_hidden_layers": 2}, **_SPREAD, embedding_size=8, inner_group_num=2)


def _modernbert() -> PretrainedConfig:
    # Layer 0 attends globally, layers 1 and 2 two tokens to either side.
    return ModernBertConfig(
        **_SIZES,
        **_SPREAD,
        global_attn_every_n_layers=3,
        local_attention=4,
        initializer_cutoff_factor=4.0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
    )


def _deberta() -> PretrainedConfig:
    return DebertaV2Config(
        **_SIZES,
        **_SPREAD,
        relative_attention=True,
        pos_att_type="p2c|c2p",
        position_buckets=4,
        max_relative_positions=16,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        type_vocab_size=0,
    )


def _ernie() -> PretrainedConfig:
    return ErnieConfig(**_SIZES, **_SPREAD)


_CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _xlm_roberta,
    "camembert": _camembert,
    "electra": _electra,
    "electra-narrow": _electra_narrow,
    "distilbert": _distilbert,
    "albert": _albert,
    "albert-inner": _albert_inner,
    "modernbert": _modernbert,
    "deberta-v2": _deberta,
    "ernie": _ernie,
}

FAST = tuple(name for name in _CONFIGS if name not in ("modernbert", "deberta-v2", "ernie"))
"""Kinds of model with a fast path."""

KINDS = tuple(_CONFIGS)
"""All kinds; ernie is one that no code here names, served by the attention interface."""


def classifier(kind: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """Builds a random classifier in evaluation mode; `changes` go to its configuration."""
    config = _CONFIGS[kind]()
    for name, value in changes.items():
        setattr(config, name, value)
    return from_config(config, seed=seed, dtype=dtype)


def from_config(config: PretrainedConfig, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """Builds a random classifier of any configuration."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config)
    return model.to(dtype).eval()


def examples(
    lengths: Sequence[int] = LENGTHS, *, seed: int = 0, segments: bool = True
) -> list[EncodedExample]:
    """Random rows `[CLS] a... [SEP] b... [SEP]` with gold labels 0, 1, 2, 0, ..."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for index, length in enumerate(lengths):
        words = torch.randint(4, VOCABULARY, (length,), generator=generator).tolist()
        second = (length + 1) // 2
        types = tuple(int(position >= second) for position in range(length))
        rows.append(
            EncodedExample(
                example_id=index,
                input_ids=(2, *words[1:-1], 3),
                token_type_ids=types if segments else None,
                segments=(None, *types[1:-1], None),
                gold=index % 3,
                truncated=False,
            )
        )
    return rows


def takes_segments(kind: str) -> bool:
    """Whether the kind of model has token type embeddings for two segments."""
    return kind in ("bert", "electra", "electra-narrow", "albert", "albert-inner", "ernie")


def batch(kind: str, lengths: Sequence[int] = LENGTHS) -> Batch:
    """The rows of `examples` as the kind of model takes them, padded."""
    rows = examples(lengths, segments=takes_segments(kind))
    return collate(rows, 1, torch.device("cpu"))
