"""Model families: how each Transformer encoder is traced and replayed."""

from __future__ import annotations

from typing import Any

from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedModel

from attattr_batch.engine.families._base import Batch as Batch
from attattr_batch.engine.families._base import Encoder as Encoder
from attattr_batch.engine.families._base import Trace as Trace
from attattr_batch.engine.families._base import collate as collate
from attattr_batch.engine.families._base import layers_run as layers_run
from attattr_batch.engine.families._intercepted import DebertaEncoder, InterceptedEncoder
from attattr_batch.engine.families.encoders import FAST
from attattr_batch.errors import UserError

_NEEDED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")

_HOOKED: dict[str, type[Encoder]] = {"deberta-v2": DebertaEncoder}
GENERIC = ("modernbert", *_HOOKED)
"""Families tested on the generic path; any other that uses transformers' attention interface is tried."""

SUPPORTED = (*FAST, *GENERIC)


def encoder_for(model: PreTrainedModel, *, generic: bool = False) -> Encoder:
    """Wraps a sequence classifier for attribution.

    Args:
        model: A `*ForSequenceClassification`, in evaluation mode; its parameters stop requiring gradients.
        generic: Use the generic path even where a fast one exists; tests compare the two.

    Raises:
        UserError: the family is not supported; the message lists those that are.
    """
    kind = model.config.model_type
    check_family(model.config)
    wrapper: type[Encoder] = (_HOOKED if generic else {**FAST, **_HOOKED}).get(kind, InterceptedEncoder)
    if wrapper is InterceptedEncoder and any(getattr(part, "is_causal", False) for part in model.modules()):
        raise _unsupported(kind, "decoders have causal attention")
    encoder = wrapper(model)
    model.requires_grad_(False)
    return encoder


def check_family(config: Any) -> None:
    """Refuses a family by its configuration, before there are any weights.

    Raises:
        UserError: the family is not supported; the message lists those that are.
    """
    kind = config.model_type
    if getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False):
        raise _unsupported(kind, "decoders have causal attention")
    if kind not in SUPPORTED:
        model = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
        if not getattr(model, "_supports_attention_backend", False):
            raise _unsupported(kind, "it does not use transformers' attention interface")
    lacking = [name for name in _NEEDED if not isinstance(getattr(config, name, None), int)]
    if lacking:
        raise _unsupported(kind, f"its configuration has no {lacking[0]}")


def _unsupported(kind: str, why: str) -> UserError:
    return UserError(
        f"model family {kind!r} is not supported: {why}",
        allowed=f"{', '.join(SUPPORTED)}, and other encoders that use transformers' attention interface",
    )
