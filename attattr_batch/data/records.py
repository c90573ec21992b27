"""The plain records that pass from layer to layer: examples, encoded examples, chunks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a dataset split.

    Attributes:
        example_id: 0-based row of the split.
        text_a: First (or only) sentence.
        text_b: Second sentence of a pair task, else None.
        gold: Gold label as the dataset's integer id; None on an unlabelled split.
    """

    example_id: int
    text_a: str
    text_b: str | None
    gold: int | None


@dataclass(frozen=True)
class Dataset:
    """Examples of one split with the label names in the dataset's own id order.

    Attributes:
        task: Task name, for example `sst2`, or a name of the user's for other data.
        split: Split name, for example `dev`.
        source: Where the rows came from, for messages and provenance.
        labels: Label names; index = integer id.
        examples: The rows, in the order of the split.
        revision: Commit hash of a hub dataset, else None.
    """

    task: str
    split: str
    source: str
    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    revision: str | None = None

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def part(self, number: int, of: int) -> Dataset:
        """Every `of`-th example, from example `number` on; examples keep their ids."""
        chosen = tuple(example for example in self.examples if example.example_id % of == number)
        return replace(self, examples=chosen)

    def fingerprint(self) -> str:
        """Hash of everything in the rows that a model run can depend on (ids, texts, gold, label names)."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for example in self.examples:
            row = [example.example_id, example.text_a, example.text_b, example.gold]
            digest.update(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One tokenised example, ready for a model.

    Attributes:
        example_id: 0-based row of the split.
        input_ids: Token ids with special tokens, already truncated.
        token_type_ids: Segment ids for models that take them, else None.
        segments: Per token 0 (first text), 1 (second text) or None (special token).
        gold: Gold label id, or None.
        truncated: Whether tokens were cut to fit the length limit.
        words: Per token the word of its text that it is a piece of, from 0, or None (special token); empty
            where nobody asks, as after an insertion.
    """

    example_id: int
    input_ids: tuple[int, ...]
    token_type_ids: tuple[int, ...] | None
    segments: tuple[int | None, ...]
    gold: int | None
    truncated: bool
    words: tuple[int | None, ...] = ()

    @property
    def n_tokens(self) -> int:
        """Number of tokens, special ones included."""
        return len(self.input_ids)


def tokens_key(examples: Iterable[EncodedExample]) -> str:
    """Hash of what a model gets of these rows: tokens, segments and whether they were cut, in order."""
    digest = hashlib.sha256()
    for one in examples:
        facts = (one.example_id, one.input_ids, one.token_type_ids, one.segments, one.truncated)
        digest.update(json.dumps(facts).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Chunk:
    """Examples that one worker handles at once; committed to the store by one transaction."""

    examples: tuple[EncodedExample, ...]
    attempt: int = field(default=0, compare=False)

    @property
    def example_ids(self) -> tuple[int, ...]:
        """Ids of the chunk's examples, in chunk order."""
        return tuple(example.example_id for example in self.examples)

    def halves(self) -> tuple[Chunk, Chunk]:
        """The chunk's two halves, as first attempts."""
        middle = len(self.examples) // 2
        return Chunk(self.examples[:middle]), Chunk(self.examples[middle:])


def make_chunks(examples: Sequence[EncodedExample], budget_tokens: int, max_examples: int) -> list[Chunk]:
    """Cuts examples into chunks, longest first, then by example id, whatever order they come in.

    Examples of like length go together, so little is padded. Longest first shows memory trouble at once and
    leaves small chunks for the end of the run.

    Args:
        examples: Encoded examples with different ids.
        budget_tokens: Most tokens in a chunk, counted as rows times the longest row. A single row longer
            than that still gets a chunk, of its own.
        max_examples: Most rows in a chunk.
    """
    ordered = sorted(examples, key=lambda example: (-example.n_tokens, example.example_id))
    chunks = []
    start = 0
    while start < len(ordered):
        # The first row is the longest, so it alone decides how many rows fit.
        rows = min(max_examples, max(1, budget_tokens // max(1, ordered[start].n_tokens)))
        chunks.append(Chunk(tuple(ordered[start : start + rows])))
        start += rows
    return chunks
