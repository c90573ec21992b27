"""Families that cannot be attributed are refused by name, with the list of those that can."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import tiny
from transformers import (
    BartConfig,
    BertTokenizer,
    Data2VecTextConfig,
    EuroBertConfig,
    FunnelConfig,
    Gemma3Config,
    GPT2Config,
    LlamaConfig,
    LongformerConfig,
    MPNetConfig,
    RobertaConfig,
    RobertaPreLayerNormConfig,
    XLMRobertaXLConfig,
)

from attattr_batch.engine.families import SUPPORTED, check_family, encoder_for
from attattr_batch.engine.models import token_limit
from attattr_batch.errors import UserError

SIZES: dict[str, Any] = {
    "vocab_size": tiny.VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "num_labels": 2,
}
# Each with part of the reason that the message must give.
REFUSED: dict[str, tuple[Any, str]] = {
    "gpt2": (
        GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=4, n_positions=40, pad_token_id=1),
        "causal attention",
    ),
    "llama": (LlamaConfig(**SIZES, bos_token_id=2, eos_token_id=3), "causal attention"),
    "bart": (
        BartConfig(
            vocab_size=50,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            max_position_embeddings=40,
            num_labels=2,
        ),
        "causal attention",
    ),
    "longformer": (LongformerConfig(**SIZES, attention_window=4), "attention interface"),
    "funnel": (
        FunnelConfig(
            vocab_size=50, block_sizes=[1, 1], d_model=16, n_head=4, d_head=4, d_inner=24, num_labels=2
        ),
        "attention interface",
    ),
    "mpnet": (MPNetConfig(**SIZES), "attention interface"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name_with_what_works(kind: str) -> None:
    config, why = REFUSED[kind]
    model = tiny.from_config(config)
    with pytest.raises(UserError, match=f"model family '{kind}' is not supported: .*{why}") as caught:
        encoder_for(model)
    allowed = str(caught.value).split("allowed:")[1]
    for family in SUPPORTED:
        assert family in allowed


def test_a_configuration_without_what_is_needed_is_refused() -> None:
    with pytest.raises(UserError, match="model family 'gemma3' is not supported: its configuration has no "):
        check_family(Gemma3Config())


@pytest.mark.parametrize(
    "config", [RobertaConfig, XLMRobertaXLConfig, RobertaPreLayerNormConfig, Data2VecTextConfig]
)
def test_positions_counted_from_the_padding_are_all_used(config: Any) -> None:
    """The longest sequence fits, and one token more does not."""
    model = tiny.from_config(config(**SIZES))
    longest = token_limit(model.config, BertTokenizer({}))
    assert model(torch.full((1, longest), 5)).logits.isfinite().all()
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, longest + 1), 5))


def test_a_refused_model_keeps_its_gradients() -> None:
    model = tiny.from_config(REFUSED["mpnet"][0])
    with pytest.raises(UserError):
        encoder_for(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_bert_as_a_decoder_is_refused() -> None:
    with pytest.raises(UserError, match="model family 'bert' is not supported"):
        encoder_for(tiny.classifier("bert", is_decoder=True))


def test_heads_that_share_values_are_refused() -> None:
    config = EuroBertConfig(**SIZES, num_key_value_heads=2, bos_token_id=2, eos_token_id=3, mask_token_id=4)
    encoder = encoder_for(tiny.from_config(config))
    with pytest.raises(UserError, match="'eurobert' shares values between heads") as caught:
        encoder.trace(tiny.batch("roberta"))
    assert "4 heads, 2 value heads" in str(caught.value)


def test_attention_that_is_not_called_once_a_layer_is_refused() -> None:
    encoder = encoder_for(tiny.classifier("bert"), generic=True)
    encoder.n_layers += 1
    with pytest.raises(UserError, match="'bert' does not expose its attention") as caught:
        encoder.trace(tiny.batch("bert"))
    assert "3 of 4 layers" in str(caught.value)


def test_eurobert_with_a_value_per_head_is_served() -> None:
    """The refusal above is about shared values, not about the family."""
    config = EuroBertConfig(**SIZES, num_key_value_heads=4, bos_token_id=2, eos_token_id=3, mask_token_id=4)
    model, batch = tiny.from_config(config), tiny.batch("roberta")
    trace = encoder_for(model).trace(batch)
    with torch.no_grad():
        torch.testing.assert_close(trace.logits, model(**batch.model_inputs()).logits, rtol=0, atol=1e-5)
