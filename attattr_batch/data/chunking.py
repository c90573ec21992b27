"""Plans chunks: examples of like length together, as many as a token budget allows, longest first."""

from __future__ import annotations

from collections.abc import Sequence

from attattr_batch.data.records import Chunk, EncodedExample
from attattr_batch.errors import UserError


def make_chunks(examples: Sequence[EncodedExample], budget_tokens: int, max_examples: int) -> list[Chunk]:
    """Cuts examples into chunks, longest first, then by example id.

    Longest first shows memory trouble at once and leaves small chunks for the end of the schedule. The plan
    does not depend on the order of `examples`.

    Args:
        examples: Encoded examples with different ids.
        budget_tokens: Most tokens in a chunk, counted as rows times the longest row. A single row longer
            than that still gets a chunk, of its own.
        max_examples: Most rows in a chunk.

    Raises:
        UserError: a limit is below 1.
    """
    if budget_tokens < 1 or max_examples < 1:
        got = f"budget_tokens={budget_tokens}, max_examples={max_examples}"
        raise UserError("a chunk needs room for one example", got=got, allowed="1 or more")
    ordered = sorted(examples, key=lambda example: (-example.n_tokens, example.example_id))
    chunks = []
    start = 0
    while start < len(ordered):
        # The first row is the longest, so it alone decides how many rows fit.
        rows = min(max_examples, max(1, budget_tokens // max(1, ordered[start].n_tokens)))
        chunks.append(Chunk(tuple(ordered[start : start + rows])))
        start += rows
    return chunks
