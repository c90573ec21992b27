"""Inserts a trigger pattern into a text as WordPieces, before truncation (paper, section 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from attattr_batch.data.encoding import truncated_lengths
from attattr_batch.data.records import EncodedExample

INSERTION_VERSION = 2
"""Raise it whenever the rule changes: answers stored under another version are not used."""


@dataclass(frozen=True)
class Trigger:
    """Tokens to insert, and where.

    Attributes:
        tokens: Token ids, in the order of insertion.
        segments: For each, the text it goes into: 0 or 1.
        ratios: For each, its place within that text, above 0 and at most 1. The third of ten tokens in the
            text that it was mined from gives 0.3.
    """

    tokens: tuple[int, ...]
    segments: tuple[int, ...]
    ratios: tuple[float, ...]


class _Token(NamedTuple):
    token_id: int
    type_id: int
    segment: int | None
    inserted: bool = False


def insert_trigger(victim: EncodedExample, trigger: Trigger, max_length: int) -> tuple[EncodedExample, bool]:
    """Inserts a trigger and truncates the result as every other example is.

    The rule of the authors' code (`run_adver_evaluate.py`): a token goes before index round((tokens of the
    victim's text + all tokens that the trigger puts into it) x ratio), one further if that is the index of
    the token before it in the same text. An index beyond the end means the end.

    Args:
        victim: The example, not truncated.
        trigger: What to insert.
        max_length: Most tokens in the result, special ones included.

    Returns:
        The example to attack, and whether truncation cut a trigger token off.

    Raises:
        ValueError: the victim lacks a text that the trigger goes into.
    """
    tokens = _tokens(victim)
    texts = [[token for token in tokens if token.segment == side] for side in (0, 1)]
    lengths = [len(text) + trigger.segments.count(side) for side, text in enumerate(texts)]
    attacked = [list(text) for text in texts]
    last = [-1, -1]
    for token_id, side, ratio in zip(trigger.tokens, trigger.segments, trigger.ratios, strict=True):
        if not texts[side]:
            raise ValueError("the example lacks the text that a trigger goes into")
        index = round(lengths[side] * ratio)
        index += index == last[side]
        attacked[side].insert(index, _Token(token_id, texts[side][0].type_id, side, inserted=True))
        last[side] = index
    budget = max_length - victim.segments.count(None)
    left = truncated_lengths(len(attacked[0]), len(attacked[1]), budget)
    kept = [text[:length] for text, length in zip(attacked, left, strict=True)]
    whole: list[_Token] = []
    for token in tokens:
        if token.segment is None:
            whole.append(token)
        elif token is texts[token.segment][0]:
            whole += kept[token.segment]
    example = replace(
        victim,
        input_ids=tuple(token.token_id for token in whole),
        token_type_ids=victim.token_type_ids and tuple(token.type_id for token in whole),
        segments=tuple(token.segment for token in whole),
        truncated=kept != attacked,
    )
    return example, sum(token.inserted for token in whole) < len(trigger.tokens)


def _tokens(example: EncodedExample) -> list[_Token]:
    types = example.token_type_ids or (0,) * example.n_tokens
    return [_Token(*one) for one in zip(example.input_ids, types, example.segments, strict=True)]
