"""Tokenises examples: adds special tokens, truncates pairs as BERT does, and never pads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from attattr_batch.data.records import EncodedExample, Example
from attattr_batch.errors import UserError

# Examples given to the tokenizer at once: enough to keep its threads busy, little in memory.
_BATCH = 1024


def encode(examples: Iterable[Example], tokenizer: Any, max_length: int) -> list[EncodedExample]:
    """Tokenises examples, in their order.

    Args:
        examples: The rows, for instance a dataset; an empty text is allowed and gives special tokens alone.
        tokenizer: A fast tokenizer of transformers.
        max_length: Most tokens in an example, special ones included; at most the model's own limit.

    Returns:
        One encoded example a row. A pair that is too long loses tokens one by one at the end of the text
        that is longer at that moment, or of the second if both are equally long.

    Raises:
        UserError: the tokenizer is not a fast one, or `max_length` leaves no room for a text beside the
            special tokens.
    """
    check_tokenizer(tokenizer)
    rows = list(examples)
    encoded: list[EncodedExample] = []
    for start in range(0, len(rows), _BATCH):
        batch = _encode_batch(rows[start : start + _BATCH], tokenizer)
        for example in batch:
            # Each text that has tokens must keep one; otherwise the row would count as one that lacks a text.
            special, least = example.segments.count(None), max(1, len({0, 1} & {*example.segments}))
            if max_length < special + least:
                allowed = f"{special + least} or more: {special} are special tokens"
                raise UserError("`max_length` leaves no room for text", got=max_length, allowed=allowed)
            encoded.append(cut(example, max_length))
    return encoded


def check_tokenizer(tokenizer: Any) -> None:
    """Checks that it is a fast tokenizer of transformers.

    Raises:
        UserError: it is something else.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            "a model needs its fast tokenizer, which reports segments",
            got=type(tokenizer).__name__,
            hint="put a tokenizer.json into its folder, or pass `AutoTokenizer.from_pretrained(...)`",
        )


def check_vocabulary(examples: Iterable[EncodedExample], size: int) -> None:
    """Checks that token ids are below the size of the model's vocabulary.

    Raises:
        UserError: one is not.
    """
    # A tokenizer without special tokens makes no token of an empty text.
    largest = max((token for example in examples for token in example.input_ids), default=0)
    if largest >= size:
        raise UserError(
            "the tokenizer does not belong to the model",
            got=f"token id {largest}",
            allowed=f"ids below {size}, the model's vocabulary",
            hint="use the tokenizer that the model was trained with; it stands beside its weights",
        )


def lacks_text(example: Example, encoded: EncodedExample) -> bool:
    """Whether a text has no token: it is empty, or holds only characters that the tokenizer drops."""
    texts = {0} if example.text_b is None else {0, 1}
    return not texts <= set(encoded.segments)


def truncated_lengths(length_a: int, length_b: int, budget: int) -> tuple[int, int]:
    """Returns how many tokens of each text stay when together they may have `budget` tokens.

    BERT's rule: take tokens one by one from the longer text, from the second on a tie. The `longest_first`
    of transformers differs by one token when the budget is odd, both texts are longer than half of it and
    the first is not the longer one: it then leaves the odd token to the second text, BERT to the first.
    """
    if length_a + length_b <= budget:
        return length_a, length_b
    short = budget // 2
    if length_a <= budget - short and length_a <= length_b:
        return length_a, budget - length_a
    if length_b <= short:
        return budget - length_b, length_b
    return budget - short, short


def cut(example: EncodedExample, max_length: int) -> EncodedExample:
    """Truncates a tokenised example to `max_length` tokens, special ones included."""
    lengths = example.segments.count(0), example.segments.count(1)
    kept = truncated_lengths(*lengths, max_length - example.segments.count(None))
    if kept == lengths:
        return example
    texts = [[place for place, one in enumerate(example.segments) if one == side] for side in (0, 1)]
    dropped = {place for text, length in zip(texts, kept, strict=True) for place in text[length:]}
    places, types = (
        [place for place in range(example.n_tokens) if place not in dropped],
        example.token_type_ids,
    )
    return replace(
        example,
        input_ids=tuple(example.input_ids[place] for place in places),
        token_type_ids=types and tuple(types[place] for place in places),
        segments=tuple(example.segments[place] for place in places),
        words=example.words and tuple(example.words[place] for place in places),
        truncated=True,
    )


def _encode_batch(examples: Sequence[Example], tokenizer: Any) -> Iterator[EncodedExample]:
    texts: list[Any] = [
        example.text_a if example.text_b is None else (example.text_a, example.text_b) for example in examples
    ]
    # Not truncated by the tokenizer, so that every family follows one rule.
    batch = tokenizer(texts, padding=False, truncation=False, return_attention_mask=False, verbose=False)
    types = batch.get("token_type_ids")
    for row, example in enumerate(examples):
        yield EncodedExample(
            example_id=example.example_id,
            input_ids=tuple(batch["input_ids"][row]),
            token_type_ids=None if types is None else tuple(types[row]),
            segments=tuple(batch.sequence_ids(row)),
            gold=example.gold,
            truncated=False,
            words=tuple(batch.word_ids(row)),
        )
