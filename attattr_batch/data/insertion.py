"""Inserting a trigger pattern into a text as WordPieces, before truncation (paper, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from attattr_batch.data.encoding import truncated_lengths
from attattr_batch.data.records import EncodedExample

INSERTION_VERSION = 2
"""Raise it whenever a trigger goes elsewhere: stored answers by another version's rule do not serve."""


@dataclass(frozen=True)
class Trigger:
    """Tokens to insert, and where.

    Attributes:
        tokens: Token ids, in the order of insertion.
        segments: For each, the text it goes into: 0 or 1.
        ratios: For each, its place within that text, above 0 and at most 1: in the text it was mined from,
            its number among the text's tokens, counted from 1, over their count.
    """

    tokens: tuple[int, ...]
    segments: tuple[int, ...]
    ratios: tuple[float, ...]


def insert_trigger(victim: EncodedExample, trigger: Trigger, max_length: int) -> tuple[EncodedExample, bool]:
    """Inserts a trigger and truncates the result as every other example is.

    The rule of the authors' code (`run_adver_evaluate.py`): a token goes before index round((tokens of the
    victim's text + all tokens that the trigger puts into it) x ratio), one further if that is the index of
    the token before it in the same text. An index beyond the end, as the last ones may be, is the end.

    Args:
        victim: The example, not truncated.
        trigger: What to insert.
        max_length: Most tokens in the result, special ones included.

    Returns:
        The example to attack, and whether truncation cut a trigger token off.

    Raises:
        ValueError: the victim lacks a text that the trigger goes into.
    """
    texts = [[place for place, one in enumerate(victim.segments) if one == side] for side in (0, 1)]
    # Entries are places in the victim; a trigger token is -1 - its number.
    entries = [list(places) for places in texts]
    lengths = [len(places) + trigger.segments.count(side) for side, places in enumerate(texts)]
    last = [-1, -1]
    for number, (side, ratio) in enumerate(zip(trigger.segments, trigger.ratios, strict=True)):
        if not texts[side]:
            raise ValueError("the example lacks the text that a trigger goes into")
        index = round(lengths[side] * ratio)
        index += index == last[side]
        entries[side].insert(index, -1 - number)
        last[side] = index
    budget = max_length - victim.segments.count(None)
    left = truncated_lengths(len(entries[0]), len(entries[1]), budget)
    kept = [one[:length] for one, length in zip(entries, left, strict=True)]
    inserted = sum(entry < 0 for one in kept for entry in one)
    return _assemble(victim, trigger, texts, kept), inserted < len(trigger.tokens)


def _assemble(
    victim: EncodedExample, trigger: Trigger, texts: list[list[int]], kept: list[list[int]]
) -> EncodedExample:
    order: list[tuple[int, int | None]] = []
    for place, side in enumerate(victim.segments):
        if side is None:
            order.append((place, None))
        elif place == texts[side][0]:
            order += [(entry, side) for entry in kept[side]]
    types = victim.token_type_ids
    return EncodedExample(
        example_id=victim.example_id,
        input_ids=tuple(
            victim.input_ids[entry] if entry >= 0 else trigger.tokens[-1 - entry] for entry, _ in order
        ),
        token_type_ids=None
        if types is None
        else tuple(types[entry if side is None else texts[side][0]] for entry, side in order),
        segments=tuple(side for _, side in order),
        gold=victim.gold,
        truncated=sum(map(len, kept)) < sum(map(len, texts)) + len(trigger.tokens),
    )
