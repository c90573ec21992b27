from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizer, RobertaTokenizer

from attattr_batch.data.encoding import encode, truncated_lengths
from attattr_batch.data.records import Dataset, Example
from attattr_batch.errors import UserError

WORDS = [f"w{number}" for number in range(40)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "w", *[f"##{n}" for n in range(10)], *WORDS]
    return BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})


def dataset(*texts: tuple[str, str | None]) -> Dataset:
    rows = tuple(Example(index, a, b, index % 2) for index, (a, b) in enumerate(texts))
    return Dataset("t", "dev", "here", ("x", "y"), rows)


def popped_one_by_one(length_a: int, length_b: int, budget: int) -> tuple[int, int]:
    """BERT's `_truncate_seq_pair`."""
    while length_a + length_b > budget:
        if length_a > length_b:
            length_a -= 1
        else:
            length_b -= 1
    return length_a, length_b


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 60))
def test_truncation_is_berts_rule(length_a: int, length_b: int, budget: int) -> None:
    assert truncated_lengths(length_a, length_b, budget) == popped_one_by_one(length_a, length_b, budget)


def test_where_longest_first_of_transformers_differs_is_as_documented(tokenizer: Any) -> None:
    differing = 0
    for length_a, length_b, budget in product(range(1, 12), range(1, 12), range(2, 12)):
        text_a, text_b = " ".join(WORDS[:length_a]), " ".join(WORDS[:length_b])
        theirs = tokenizer(text_a, text_b, truncation="longest_first", max_length=budget + 3)
        kept = theirs.sequence_ids(0).count(0), theirs.sequence_ids(0).count(1)
        ours = truncated_lengths(length_a, length_b, budget)
        odd_token = budget % 2 == 1 and budget / 2 < length_a <= length_b
        assert kept == (ours[::-1] if odd_token else ours)
        differing += odd_token
    assert differing


def test_rows_are_never_padded_and_segments_mark_special_tokens(tokenizer: Any) -> None:
    short, pair = encode(dataset(("w1 w2", None), ("w1", "w3 w4")), tokenizer, 128)
    ids = tokenizer.convert_tokens_to_ids
    assert short.input_ids == tuple(ids(["[CLS]", "w1", "w2", "[SEP]"]))
    assert short.segments == (None, 0, 0, None)
    assert short.token_type_ids == (0, 0, 0, 0)
    assert pair.input_ids == tuple(ids(["[CLS]", "w1", "[SEP]", "w3", "w4", "[SEP]"]))
    assert pair.segments == (None, 0, None, 1, 1, None)
    assert pair.words == (None, 0, None, 0, 1, None)
    assert pair.token_type_ids == (0, 0, 0, 1, 1, 1)
    assert (short.example_id, short.gold, pair.example_id, pair.gold) == (0, 0, 1, 1)
    assert not short.truncated and not pair.truncated


def test_a_cut_pair_keeps_its_special_tokens_and_the_heads_of_both_texts(tokenizer: Any) -> None:
    text_a, text_b = " ".join(WORDS[:9]), " ".join(WORDS[10:30])
    (cut,) = encode(dataset((text_a, text_b)), tokenizer, 16)
    assert tokenizer.convert_ids_to_tokens(cut.input_ids) == [
        "[CLS]", *WORDS[:7], "[SEP]", *WORDS[10:16], "[SEP]",
    ]  # fmt: skip
    assert cut.segments == (None, *[0] * 7, None, *[1] * 6, None)
    assert len(cut.words) == len(cut.segments)
    assert cut.token_type_ids == (*[0] * 9, *[1] * 7)
    assert cut.truncated


def test_exactly_full_is_not_truncated(tokenizer: Any) -> None:
    text = " ".join(WORDS[:6])
    fits, cut = (encode(dataset((text, None)), tokenizer, limit)[0] for limit in (8, 7))
    assert (fits.n_tokens, fits.truncated) == (8, False)
    assert (cut.n_tokens, cut.truncated) == (7, True)


def test_settings_stored_in_the_tokenizer_do_not_leak_in(tokenizer: Any) -> None:
    texts = dataset(("w1 w2 w3 w4", None), ("w1", None))
    before = encode(texts, tokenizer, 128)
    tokenizer(["w1 w2 w3"], padding="max_length", truncation=True, max_length=3)
    assert encode(texts, tokenizer, 128) == before


def test_more_rows_than_one_batch_keep_their_order(tokenizer: Any) -> None:
    texts = [(" ".join(WORDS[: 1 + index % 7]), None) for index in range(2100)]
    encoded = encode(dataset(*texts), tokenizer, 128)
    assert [row.example_id for row in encoded] == list(range(2100))
    assert [row.n_tokens for row in encoded] == [3 + index % 7 for index in range(2100)]


def test_empty_and_strange_texts_pass(tokenizer: Any) -> None:
    long = "w1 " * 10_000
    empty, pair, emoji, cut = encode(
        dataset(("", None), ("", ""), ("\U0001f600 \x00", None), (long, None)), tokenizer, 16
    )
    assert empty.segments == (None, None)
    assert pair.segments == (None, None, None)
    assert tokenizer.unk_token_id in emoji.input_ids
    assert (cut.n_tokens, cut.truncated) == (16, True)


def test_a_family_without_segment_ids_gives_none() -> None:
    letters = {
        token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b"])
    }
    roberta = RobertaTokenizer(vocab=letters, merges=[])
    (row,) = encode(dataset(("aa", "bbb")), roberta, 8)
    assert row.token_type_ids is None
    assert row.segments == (None, 0, 0, None, None, 1, 1, None)
    assert row.truncated


def test_both_texts_of_a_pair_keep_a_token(tokenizer: Any) -> None:
    (pair,) = encode(dataset(("w1 w2", "w3 w4")), tokenizer, 5)
    assert pair.segments == (None, 0, None, 1, None)
    with pytest.raises(UserError, match="no room for text\n.*4\n.*5 or more: 3 are special"):
        encode(dataset(("w1 w2", "w3 w4")), tokenizer, 4)
    (half,) = encode(dataset(("w1 w2", "")), tokenizer, 4)
    assert half.segments == (None, 0, None, None), "that one lacks a text"


def test_no_room_and_slow_tokenizers_are_user_errors(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="no room for text\n.*2\n.*3 or more: 2 are special"):
        encode(dataset(("w1", None)), tokenizer, 2)
    with pytest.raises(UserError, match="fast tokenizer"):
        encode(dataset(("w1", None)), object(), 8)
