"""Inserts a trigger pattern into a text as WordPieces, before truncation (paper, section 5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, groupby

from attattr_batch.data.encoding import cut
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
            text that it was mined from gives 0.3. Tokens with one ratio that follow each other are pieces of
            one word.
    """

    tokens: tuple[int, ...]
    segments: tuple[int, ...]
    ratios: tuple[float, ...]


def insert_trigger(victim: EncodedExample, trigger: Trigger, max_length: int) -> tuple[EncodedExample, bool]:
    """Inserts a trigger and truncates the result as every other example is.

    The rule of the authors' code (`run_adver_evaluate.py`): a token goes before index round((tokens of the
    victim's text + all tokens that the trigger puts into it) x ratio), one further if that is the index of
    the token before it in the same text. An index beyond the end means the end. The pieces of a word count
    as one token, and stay together.

    Args:
        victim: The example, not truncated.
        trigger: What to insert.
        max_length: Most tokens in the result, special ones included.

    Returns:
        The example to attack, and whether truncation cut a trigger token off.

    Raises:
        ValueError: the victim lacks a text that the trigger goes into.
    """
    tokens, types = victim.input_ids, victim.token_type_ids or (0,) * victim.n_tokens
    # Each text as pairs: a token, and whether it was inserted.
    texts = [
        [(token, False) for token, segment in zip(tokens, victim.segments, strict=True) if segment == side]
        for side in (0, 1)
    ]
    if any(not texts[side] for side in trigger.segments):
        raise ValueError("the example lacks the text that a trigger goes into")
    words = [
        (side, ratio, [(token, True) for token, *_ in pieces])
        for (side, ratio), pieces in groupby(
            zip(trigger.tokens, trigger.segments, trigger.ratios, strict=True), key=lambda one: one[1:]
        )
    ]
    units = [[[one] for one in text] for text in texts]
    lengths = [len(text) + sum(side == of for of, *_ in words) for side, text in enumerate(texts)]
    last = [-1, -1]
    for side, ratio, pieces in words:
        index = round(lengths[side] * ratio)
        index += index == last[side]
        units[side].insert(index, pieces)
        last[side] = index
    texts = [list(chain.from_iterable(one)) for one in units]
    whole: list[tuple[int, int, int | None]] = []
    for token, type_id, segment in zip(tokens, types, victim.segments, strict=True):
        if segment is None:
            whole.append((token, type_id, segment))
        elif not whole or whole[-1][2] != segment:  # the text's first token
            whole += [(one, type_id, segment) for one, _ in texts[segment]]
    input_ids, type_ids, segments = zip(*whole, strict=True)
    attacked = replace(
        victim,
        input_ids=input_ids,
        token_type_ids=victim.token_type_ids and type_ids,
        segments=segments,
        words=(),
    )
    result = cut(attacked, max_length)
    lost = [text[result.segments.count(side) :] for side, text in enumerate(texts)]
    return result, any(inserted for text in lost for _, inserted in text)
