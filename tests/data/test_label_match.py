from __future__ import annotations

import pytest

from attattr_batch.data.labels import LabelMatch, match_labels, outputs_by_label
from attattr_batch.errors import UserError

MNLI = ("entailment", "neutral", "contradiction")
RTE = ("entailment", "not_entailment")


def test_a_permuted_model_is_matched_by_name_whatever_the_spelling() -> None:
    names = {0: "CONTRADICTION", 1: "Entailment", 2: "neutral"}
    assert match_labels(MNLI, names) == LabelMatch((2, 0, 1), by_name=True)
    assert match_labels(RTE, {1: "ENTAILMENT", 0: "Not-Entailment"}).mapping == (1, 0)
    assert match_labels(("a b", "c"), {0: "c", 1: "A_B"}).mapping == (1, 0)


def test_the_output_of_a_label_is_found_from_the_label_of_an_output() -> None:
    """A permutation of three in a circle tells it from its inverse."""
    assert outputs_by_label((2, 0, 1)) == (1, 2, 0)
    assert outputs_by_label([1, 0]) == (1, 0)


def test_nameless_outputs_keep_their_order_and_say_so() -> None:
    assert match_labels(RTE, {0: "LABEL_0", 1: "LABEL_1"}) == LabelMatch((0, 1), by_name=False)


def test_an_explicit_map_wins_over_names_and_over_order() -> None:
    nameless = {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    by_index = {"0": "contradiction", "1": "neutral", "LABEL_2": "entailment"}
    assert match_labels(MNLI, nameless, by_index) == LabelMatch((2, 1, 0), by_name=True)
    swapped = {"entailment": "not_entailment", "not_entailment": "entailment"}
    assert match_labels(RTE, dict(enumerate(RTE)), swapped).mapping == (1, 0)
    partly = match_labels(MNLI, {0: "neutral", 1: "yes", 2: "contradiction"}, {"yes": "entailment"})
    assert partly.mapping == (1, 0, 2)


def test_unmatched_names_show_both_lists_and_the_way_out() -> None:
    with pytest.raises(UserError) as caught:
        match_labels(("negative", "positive"), {0: "bad", 1: "good"})
    message = str(caught.value)
    assert "bad -> ?, good -> ?" in message and "negative, positive" in message
    assert "label_map: {bad: negative, good: positive}" in message


@pytest.mark.parametrize("names", [{0: "x", 1: "y", 2: "z"}, {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}])
def test_another_number_of_labels_is_refused(names: dict[int, str]) -> None:
    with pytest.raises(UserError, match=r"different numbers of labels\n  got:     model: 3"):
        match_labels(RTE, names)


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ({"entailmnt": "entailment"}, "unknown model label.*\n.*\n.*\n.*did you mean 'entailment'"),
        ({"2": "entailment"}, "unknown model label"),
        ({"0": "neutral"}, "unknown dataset label"),
        ({"0": "not_entailment"}, "cannot tell"),
    ],
)
def test_a_wrong_map_is_refused(label_map: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        match_labels(RTE, dict(enumerate(RTE)), label_map)
