from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from attattr_batch.data.records import EncodedExample, make_chunks


def example(example_id: int, length: int) -> EncodedExample:
    return EncodedExample(example_id, (7,) * length, None, (None,) * length, None, False)


lengths = st.lists(st.integers(2, 130), max_size=60)


@given(lengths, st.integers(1, 600), st.integers(1, 20))
def test_every_example_is_in_one_chunk_and_the_limits_hold(sizes: list[int], budget: int, most: int) -> None:
    examples = [example(index, size) for index, size in enumerate(sizes)]
    chunks = make_chunks(examples, budget, most)
    assert sorted(i for chunk in chunks for i in chunk.example_ids) == list(range(len(sizes)))
    for chunk in chunks:
        rows, longest = len(chunk.examples), max(row.n_tokens for row in chunk.examples)
        assert 1 <= rows <= most
        assert rows == 1 or rows * longest <= budget
    ordered = [row.n_tokens for chunk in chunks for row in chunk.examples]
    assert ordered == sorted(sizes, reverse=True)


@given(lengths, st.integers(1, 600), st.integers(1, 20), st.integers())
def test_no_chunk_has_room_for_the_next_row_and_order_does_not_matter(
    sizes: list[int], budget: int, most: int, seed: int
) -> None:
    examples = [example(index, size) for index, size in enumerate(sizes)]
    chunks = make_chunks(examples, budget, most)
    for chunk in chunks[:-1]:
        rows = len(chunk.examples)
        assert rows == most or (rows + 1) * chunk.examples[0].n_tokens > budget
    shuffled = list(examples)
    random.Random(seed).shuffle(shuffled)
    assert make_chunks(shuffled, budget, most) == chunks


def test_equal_lengths_keep_the_order_of_ids() -> None:
    chunks = make_chunks([example(3, 5), example(1, 5), example(2, 9)], 10, 8)
    assert [chunk.example_ids for chunk in chunks] == [(2,), (1, 3)]
