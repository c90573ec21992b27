"""Triggers go where the authors' rule says, in their order, and only truncation takes anything away."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attattr_batch.data.insertion import Trigger, insert_trigger
from attattr_batch.data.records import EncodedExample

CLS, SEP = 101, 102


def single(*words: int) -> EncodedExample:
    """[CLS] words [SEP]"""
    return EncodedExample(
        example_id=3,
        input_ids=(CLS, *words, SEP),
        token_type_ids=(0,) * (len(words) + 2),
        segments=(None, *(0,) * len(words), None),
        gold=1,
        truncated=False,
    )


def pair(first: tuple[int, ...], second: tuple[int, ...]) -> EncodedExample:
    """[CLS] first [SEP] second [SEP]"""
    return EncodedExample(
        example_id=3,
        input_ids=(CLS, *first, SEP, *second, SEP),
        token_type_ids=(0,) * (len(first) + 2) + (1,) * (len(second) + 1),
        segments=(None, *(0,) * len(first), None, *(1,) * len(second), None),
        gold=1,
        truncated=False,
    )


def test_one_token_goes_to_its_share_of_the_text() -> None:
    # round(5 x ratio): .5 -> 2, .25 -> 1, 1 -> 5 (the end), .1 -> 0 (the beginning).
    for ratio, expected in [(0.5, (1, 2, 9, 3, 4)), (0.25, (1, 9, 2, 3, 4)), (1.0, (1, 2, 3, 4, 9)),
                            (0.1, (9, 1, 2, 3, 4))]:  # fmt: skip
        attacked, cut = insert_trigger(single(1, 2, 3, 4), Trigger((9,), (0,), (ratio,)), 128)
        assert attacked.input_ids == (CLS, *expected, SEP)
        assert attacked.segments == (None, 0, 0, 0, 0, 0, None)
        assert (attacked.example_id, attacked.gold, attacked.truncated, cut) == (3, 1, False, False)


def test_every_token_counts_all_of_its_text_and_the_second_steps_aside() -> None:
    # First: round(6 x .5) = 3. Second: round(6 x .6) = 4; round(6 x .45) = 3 is taken and becomes 4;
    # round(6 x .4) = 2.
    for ratio, expected in [(0.6, (1, 2, 3, 8, 9, 4)), (0.45, (1, 2, 3, 8, 9, 4)), (0.4, (1, 2, 9, 3, 8, 4))]:
        attacked, _ = insert_trigger(single(1, 2, 3, 4), Trigger((8, 9), (0, 0), (0.5, ratio)), 128)
        assert attacked.input_ids == (CLS, *expected, SEP)


def test_each_side_of_a_pair_has_its_own_count() -> None:
    # First text: round(3 x 1) = 3. Second: round(6 x .5) = 3, no clash with the first text's, then
    # round(6 x .25) = 2.
    trigger = Trigger((7, 8, 9), (0, 1, 1), (1.0, 0.5, 0.25))
    attacked, cut = insert_trigger(pair((1, 2), (3, 4, 5, 6)), trigger, 128)
    assert attacked.input_ids == (CLS, 1, 2, 7, SEP, 3, 4, 9, 5, 8, 6, SEP)
    assert attacked.segments == (None, 0, 0, 0, None, 1, 1, 1, 1, 1, 1, None)
    assert attacked.token_type_ids == (0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1)
    assert not cut


def test_truncation_comes_after_and_says_if_it_took_a_trigger() -> None:
    # Six tokens are left for both texts: the longer loses its last ones first.
    kept, cut = insert_trigger(pair((1, 2), (3, 4, 5, 6)), Trigger((9,), (1,), (0.25,)), 9)
    assert kept.input_ids == (CLS, 1, 2, SEP, 3, 9, 4, 5, SEP)
    assert (kept.truncated, cut) == (True, False)
    lost, cut = insert_trigger(pair((1, 2), (3, 4, 5, 6)), Trigger((9,), (1,), (1.0,)), 9)
    assert lost.input_ids == (CLS, 1, 2, SEP, 3, 4, 5, 6, SEP)
    assert (lost.truncated, cut) == (True, True)


def test_a_pattern_of_a_pair_does_not_fit_a_single_text() -> None:
    with pytest.raises(ValueError, match="lacks the text that a trigger goes into"):
        insert_trigger(single(1, 2), Trigger((9,), (1,), (0.5,)), 128)


def test_texts_may_stand_side_by_side() -> None:
    """A tokenizer without special tokens puts nothing between the texts of a pair."""
    bare = EncodedExample(3, (1, 2, 3, 4), None, (0, 0, 1, 1), 1, False)
    attacked, cut = insert_trigger(bare, Trigger((8, 9), (0, 1), (1.0, 0.5)), 128)
    # First text: round(3 x 1) = 3, the end. Second: round(3 x .5) = 2, the end.
    assert attacked.input_ids == (1, 2, 8, 3, 4, 9)
    assert attacked.segments == (0, 0, 0, 1, 1, 1)
    assert (attacked.token_type_ids, cut) == (None, False)


def by_the_authors_rule(words: list[int], tokens: list[int], ratios: list[float]) -> list[int]:
    """One text with its tokens in it, as the authors' `run_adver_evaluate.py` has them; told again."""
    text, last = list(words), -1
    for token, ratio in zip(tokens, ratios, strict=True):
        place = round((len(words) + len(tokens)) * ratio)
        if place == last:
            place += 1
        last = place
        text.insert(place, token)
    return text


@settings(max_examples=300)
@given(
    first=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    second=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    data=st.data(),
)
def test_tokens_stand_where_the_authors_put_them(
    first: list[int], second: list[int], data: st.DataObject
) -> None:
    # A trigger's tokens are in the order of their positions: those of the first text first.
    sides = [data.draw(st.lists(st.floats(0.01, 1.0), max_size=4, unique=True)) for _ in range(2)]
    tokens = [[1000 * (1 + side) + number for number in range(len(one))] for side, one in enumerate(sides)]
    trigger = Trigger(
        (*tokens[0], *tokens[1]), (0,) * len(tokens[0]) + (1,) * len(tokens[1]), (*sides[0], *sides[1])
    )
    attacked, cut = insert_trigger(pair(tuple(first), tuple(second)), trigger, 512)
    for side, words in enumerate((first, second)):
        found = [one for one, of in zip(attacked.input_ids, attacked.segments, strict=True) if of == side]
        assert found == by_the_authors_rule(words, tokens[side], sides[side])
    assert not cut


@settings(max_examples=300)
@given(
    text=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    words=st.dictionaries(st.floats(0.01, 1.0), st.integers(1, 4), min_size=1, max_size=4),
)
def test_a_word_goes_where_a_token_would_and_its_pieces_stay_together(
    text: list[int], words: dict[float, int]
) -> None:
    ratios = [ratio for ratio, count in words.items() for _ in range(count)]
    tokens = [
        1000 * (1 + place) + piece for place, count in enumerate(words.values()) for piece in range(count)
    ]
    trigger = Trigger(tuple(tokens), (0,) * len(tokens), tuple(ratios))
    attacked, _ = insert_trigger(single(*text), trigger, 512)
    expected = by_the_authors_rule(text, [1000 * (1 + place) for place in range(len(words))], list(words))
    pieces = {1000 * (1 + place): count for place, count in enumerate(words.values())}
    assert list(attacked.input_ids[1:-1]) == [
        one + piece for one in expected for piece in range(pieces.get(one, 1))
    ]


@settings(max_examples=300)
@given(
    first=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    second=st.lists(st.integers(1, 50), max_size=8),
    places=st.lists(st.tuples(st.integers(0, 1), st.floats(0.01, 1.0)), min_size=1, max_size=4),
    room=st.integers(4, 30),
)
def test_texts_keep_their_order_and_special_tokens_their_places(
    first: list[int], second: list[int], places: list[tuple[int, float]], room: int
) -> None:
    victim = pair(tuple(first), tuple(second)) if second else single(*first)
    sides = tuple(side if second else 0 for side, _ in places)
    tokens = tuple(1000 + number for number in range(len(places)))
    trigger = Trigger(tokens, sides, tuple(ratio for _, ratio in places))
    attacked, cut = insert_trigger(victim, trigger, room + 3)

    special = victim.segments.count(None)
    assert attacked.n_tokens == min(room + 3, victim.n_tokens + len(tokens))
    assert attacked.segments.count(None) == special
    assert [one for one in attacked.input_ids if one > 100 and one < 1000] == [CLS, *[SEP] * (special - 1)]
    assert cut == any(token not in attacked.input_ids for token in tokens)
    assert attacked.truncated == (victim.n_tokens + len(tokens) > room + 3)
    for side, words in ((0, first), (1, second)):
        found = [one for one, of in zip(attacked.input_ids, attacked.segments, strict=True) if of == side]
        # What is left of the text is a beginning of it, in its order, whatever was inserted in between.
        left = [one for one in found if one < 1000]
        assert left == words[: len(left)]
        assert {one for one in found if one >= 1000} <= {
            t for t, of in zip(tokens, sides, strict=True) if of == side
        }
    assert attacked.token_type_ids is not None
    assert all(
        kind == side
        for kind, side in zip(attacked.token_type_ids, attacked.segments, strict=True)
        if side is not None
    )
