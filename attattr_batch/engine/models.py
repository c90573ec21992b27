"""Loads classifiers, from safetensors only and never with remote code, and refuses what cannot be used."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from attattr_batch.engine.model_source import ModelSource, refuse_unhashed_weights
from attattr_batch.errors import UserError

# More than any classifier has; a hostile configuration may ask for more, to exhaust memory or time.
_LARGEST = {
    "num_hidden_layers": 256,
    "num_attention_heads": 256,
    "hidden_size": 2**15,
    "intermediate_size": 2**17,
    "vocab_size": 2**22,
    "max_position_embeddings": 2**22,
    "num_labels": 2**12,
}
_ATTENTION_KEYS = ("attn_implementation", "_attn_implementation")
_ATTENTION_CODE = (None, "eager", "sdpa")
_IN_A_LAYER = re.compile(r"\.\d+\.")
# Families that count positions from padding_idx + 1.
_COUNTED_FROM_PADDING = {
    *("roberta", "xlm-roberta", "camembert"),
    *("xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text", "xmod"),
}


def load_config(source: ModelSource) -> Any:
    """Reads and checks the configuration of a classifier without loading weights.

    Tokenizers and weights are loaded only after this, so that nothing is loaded without these checks.

    Raises:
        UserError: transformers does not know the configuration, or it needs code of its own or describes a
            model larger than any; or the folder names weights that are elsewhere, as an adapter does.
    """
    refuse_unhashed_weights(source.folder)
    path = source.folder / "config.json"
    try:
        # The file itself is checked first: transformers would make as many label names as it asks for.
        text = path.read_text(encoding="utf-8")
        settings = json.loads(text, object_hook=lambda part: _without_things_elsewhere(part, path))
        _check_sizes(settings.get, path)
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=False)
    except UserError:
        raise
    except Exception as error:  # any kind: each architecture checks its settings in its own way
        allowed = "architectures that ship with transformers; code from a model folder is never run"
        raise _unusable(f"{path}: {error}", allowed) from error
    _check_sizes(lambda name: getattr(config, name, None), path)
    if not all(isinstance(name, str) for name in config.id2label.values()):
        raise _unusable(f"{path}: id2label", "texts")
    return config


def _unusable(got: str, allowed: str) -> UserError:
    return UserError("the model's configuration cannot be used", got=got, allowed=allowed)


def _without_things_elsewhere(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """Refuses settings with which transformers would read weights that are not hashed, or run code."""
    for key, value in settings.items():
        if key in _ATTENTION_KEYS and value not in _ATTENTION_CODE:
            allowed = "eager, sdpa or null: other attention code may be fetched from the hub and run"
        elif key == "transformers_weights" and Path(str(value)).name != value:
            allowed = "the name of a *.safetensors beside it"
        else:
            continue
        raise _unusable(f"{path}: {key} is {reprlib.repr(value):.100}", allowed)
    return settings


def _check_sizes(setting: Callable[[str], Any], path: Path) -> None:
    for name, largest in _LARGEST.items():
        value = setting(name)
        if value is not None and not (isinstance(value, int) and 0 < value <= largest):
            got = f"{path}: {name} is {reprlib.repr(value):.100}"
            raise _unusable(got, f"a number from 1 to {largest}")


def check_outputs(config: Any) -> None:
    """Refuses a classifier whose outputs are not class scores, which a softmax turns into probabilities.

    Raises:
        UserError: it has a regression head, or one for several labels at once.
    """
    if config.num_labels < 2 or config.problem_type not in (None, "single_label_classification"):
        raise UserError(
            "the model's outputs are no class scores (it may have a regression head): self-attention "
            "attribution explains the probability of one class among several",
            got=f"{config.num_labels} outputs, problem_type: {config.problem_type}",
            allowed="2 or more classes, problem_type: single_label_classification or none",
            hint="choose a model fine-tuned for this task",
        )


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """Loads the model's tokenizer.

    Raises:
        UserError: the folder has none, or only a slow one; or `load_config` refuses the model.
    """
    load_config(source)  # transformers reads the configuration for a tokenizer too
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
    except Exception as error:  # any kind: the library of fast tokenizers raises bare exceptions
        raise UserError(
            "the model's tokenizer cannot be loaded",
            got=f"{source.folder}: {error}",
            hint="put tokenizer.json and tokenizer_config.json beside the weights",
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # Where files are missing, transformers makes a tokenizer without a vocabulary: every word is [UNK].
        raise UserError(
            "the model has no tokenizer",
            got=f"{source.folder} without a vocabulary",
            allowed="tokenizer.json, vocab.txt or the like, beside the weights",
            hint="`tokenizer.save_pretrained(folder)` with the tokenizer it was trained with",
        )
    return tokenizer


def load_model(source: ModelSource, device: torch.device) -> PreTrainedModel:
    """Loads a sequence classifier in float32, in evaluation mode.

    Raises:
        UserError: weights are missing (a classifier head, above all), broken, or do not fit the
            configuration, or a layer has weights that the architecture does not use (an unused head or pooler
            is common and does no harm); or `load_config` refuses the model.
    """
    model, info = read_weights(source, load_config(source))
    missing = sorted(info["missing_keys"])
    if missing:
        raise UserError(
            "the model folder lacks weights, so they would be random",
            got=f"{source.folder} without {first_of(missing)}",
            allowed="a fine-tuned sequence classifier",
            hint="fine-tune one: `attattr finetune --help`",
        )
    own = f"{model.base_model_prefix}."
    unused = sorted(
        name for name in info["unexpected_keys"] if name.startswith(own) and _IN_A_LAYER.search(name)
    )
    if unused:
        raise UserError(
            "the model folder has weights that this architecture does not use, so it would be another model",
            got=f"{source.folder}: {first_of(unused)}",
            allowed="weights and a config.json that go together, of an architecture transformers still has",
        )
    broken = [name for name, weights in model.named_parameters() if not weights.isfinite().all()]
    if broken:
        raise UserError("the model has weights that are no numbers", got=f"{source.folder}: {broken[0]}")
    return model.to(device).eval()


def first_of(names: Sequence[str]) -> str:
    """The first four names, for a message."""
    return ", ".join([*names[:4], *(["..."] if len(names) > 4 else [])])


def read_weights(source: ModelSource, config: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Makes a classifier in float32 and fills it from the folder: the only place where weights are read.

    Args:
        source: The model.
        config: From `load_config`, with other labels if the classifier is to have others.

    Returns:
        The model, and transformers' lists of the weights that were missing or not used.

    Raises:
        UserError: the weights cannot be read, or do not fit the configuration.
    """
    try:
        with quiet_transformers():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                source.folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # any kind: each architecture fails in its own way on odd settings
        raise UserError("the model cannot be loaded", got=f"{source.folder}: {error}") from error
    return model, info


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers' progress bars and warnings off the terminal; here, what matters is an error."""
    logging = transformers.utils.logging
    level, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bar:
            logging.enable_progress_bar()


def token_limit(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Longest sequence, in tokens, that position embeddings and tokenizer allow."""
    positions = int(getattr(config, "max_position_embeddings", None) or 512)
    if config.model_type in _COUNTED_FROM_PADDING:
        positions -= int(config.pad_token_id) + 1
    return min(positions, int(tokenizer.model_max_length))
