"""Finds out which label of the dataset each output of a model stands for.

Checkpoints differ in the order of labels (some permute those of MNLI) and in their names (LABEL_0, ...). A
mismatch that nobody notices makes every score of a gold label meaningless.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attattr_batch.errors import UserError, unknown_name

_NAMELESS = re.compile(r"label_?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class LabelMatch:
    """Which dataset label each output of a model stands for.

    Attributes:
        mapping: Dataset label id by model output index; a permutation.
        by_name: False if the model has no label names and the order is assumed to be the dataset's.
    """

    mapping: tuple[int, ...]
    by_name: bool


def match_labels(
    dataset_labels: Sequence[str],
    id2label: Mapping[int, str],
    label_map: Mapping[str, str] | None = None,
) -> LabelMatch:
    """Matches a model's outputs to a dataset's labels.

    Case does not matter in names, and `-`, `_` and a space are the same. A model whose names are LABEL_0,
    LABEL_1, ... is taken to have the dataset's order, with `by_name` False.

    Args:
        dataset_labels: Label names; index = integer id.
        id2label: The model's label name by output index, from its config.
        label_map: Dataset label name by model label name or output index. It wins over names that match,
            and is only needed for those that do not.

    Raises:
        UserError: the numbers of labels differ, names do not match, or the `label_map` names unknown labels
            or maps two outputs to one label.
    """
    names = [id2label[index] for index in sorted(id2label)]
    if len(names) != len(dataset_labels):
        raise UserError(
            "the model and the dataset have different numbers of labels",
            got=f"model: {len(names)} ({', '.join(names)})",
            allowed=f"dataset: {len(dataset_labels)} ({', '.join(dataset_labels)})",
            hint="choose a model fine-tuned for this task",
        )
    if label_map is None and all(_NAMELESS.fullmatch(name) for name in names):
        return LabelMatch(tuple(range(len(names))), by_name=False)
    ids = {_plain(label): index for index, label in enumerate(dataset_labels)}
    found = [ids.get(_plain(name)) for name in names]
    for key, label in (label_map or {}).items():
        if _plain(label) not in ids:
            raise unknown_name("dataset label in `label_map`", label, dataset_labels)
        found[_output_index(key, names)] = ids[_plain(label)]
    mapping = tuple(index for index in found if index is not None)
    if sorted(mapping) != list(range(len(names))):
        matched = ["?" if index is None else dataset_labels[index] for index in found]
        got = ", ".join(f"{name} -> {label}" for name, label in zip(names, matched, strict=True))
        example = ", ".join(f"{name}: {label}" for name, label in zip(names, dataset_labels, strict=True))
        raise UserError(
            "cannot tell which output of the model stands for which label of the dataset",
            got=f"model labels: {got}",
            allowed=f"dataset labels: {', '.join(dataset_labels)}, each for one output",
            hint="write a `label_map` in the spec, model label (or output index) to dataset label, for"
            f" example `label_map: {{{example}}}` if that is true",
        )
    return LabelMatch(mapping, by_name=True)


def outputs_by_label(mapping: Sequence[int]) -> tuple[int, ...]:
    """Model output index by dataset label id, from the label id by output: the inverse permutation."""
    return tuple(map(mapping.index, range(len(mapping))))


def _output_index(key: str, names: Sequence[str]) -> int:
    plain = [_plain(name) for name in names]
    if _plain(key) in plain:
        return plain.index(_plain(key))
    if key.isascii() and key.isdigit() and int(key) < len(names):
        return int(key)
    raise unknown_name("model label in `label_map`", key, [*names, *map(str, range(len(names)))])


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]+", " ", name).strip().casefold()
