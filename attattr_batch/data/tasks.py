"""The GLUE tasks: where their rows lie, in official TSV files and on the hub, and what their labels are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attattr_batch.errors import unknown_name

GLUE_HUB_NAME = "nyu-mll/glue"
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Columns:
    """Column names of one layout; None where there is no second text or no label."""

    text_a: str
    text_b: str | None
    label: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are not None."""
        return tuple(name for name in (self.text_a, self.text_b, self.label) if name is not None)


@dataclass(frozen=True)
class GlueTask:
    """One GLUE task in both of its layouts.

    Attributes:
        name: Task name as users write it.
        folder: Folder of the official TSV layout.
        files: TSV file by split.
        tsv: Column names in the TSV files.
        config: Configuration of the hub set `nyu-mll/glue`.
        hub_splits: The hub's split name by ours.
        hub: Column names on the hub.
        labels: Label names; index = integer id, in the hub's order.
        regression: Whether the gold value is a score instead of a class.
        headerless: Splits whose TSV file has no header line, with the columns it has instead.
        strip: Whether white space around the texts is dropped; true where the official files pad them.
    """

    name: str
    folder: str
    files: Mapping[str, str]
    tsv: Columns
    config: str
    hub_splits: Mapping[str, str]
    hub: Columns
    labels: tuple[str, ...]
    regression: bool = False
    headerless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    strip: bool = False


_FILES = {split: f"{split}.tsv" for split in SPLITS}
_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_ENTAILMENT = ("entailment", "not_entailment")
_PAIR = Columns("sentence1", "sentence2", "label")
_SINGLE = Columns("sentence", None, "label")
_COLA_COLUMNS = ("source", "label", "star", "sentence")


def _mnli(name: str, part: str) -> GlueTask:
    return GlueTask(
        name=name,
        folder="MNLI",
        files={"train": "train.tsv", "dev": f"dev_{part}.tsv", "test": f"test_{part}.tsv"},
        tsv=Columns("sentence1", "sentence2", "gold_label"),
        config="mnli",
        hub_splits={"train": "train", "dev": f"validation_{part}", "test": f"test_{part}"},
        hub=Columns("premise", "hypothesis", "label"),
        labels=("entailment", "neutral", "contradiction"),
    )


def _task(name: str, folder: str, columns: Columns, labels: tuple[str, ...]) -> GlueTask:
    return GlueTask(name, folder, _FILES, columns, name, _HUB_SPLITS, columns, labels)


_TASKS = (
    GlueTask(
        name="cola",
        folder="CoLA",
        files=_FILES,
        tsv=_SINGLE,
        config="cola",
        hub_splits=_HUB_SPLITS,
        hub=_SINGLE,
        labels=("unacceptable", "acceptable"),
        headerless={"train": _COLA_COLUMNS, "dev": _COLA_COLUMNS},
    ),
    _mnli("mnli", "matched"),
    _mnli("mnli_mismatched", "mismatched"),
    GlueTask(
        name="mrpc",
        folder="MRPC",
        files=_FILES,
        tsv=Columns("#1 String", "#2 String", "Quality"),
        config="mrpc",
        hub_splits=_HUB_SPLITS,
        hub=_PAIR,
        labels=("not_equivalent", "equivalent"),
    ),
    _task("qnli", "QNLI", Columns("question", "sentence", "label"), _ENTAILMENT),
    GlueTask(
        name="qqp",
        folder="QQP",
        files=_FILES,
        tsv=Columns("question1", "question2", "is_duplicate"),
        config="qqp",
        hub_splits=_HUB_SPLITS,
        hub=Columns("question1", "question2", "label"),
        labels=("not_duplicate", "duplicate"),
    ),
    _task("rte", "RTE", _PAIR, _ENTAILMENT),
    GlueTask(
        name="sst2",
        folder="SST-2",
        files=_FILES,
        tsv=_SINGLE,
        config="sst2",
        hub_splits=_HUB_SPLITS,
        hub=_SINGLE,
        labels=("negative", "positive"),
        strip=True,
    ),
    GlueTask(
        name="stsb",
        folder="STS-B",
        files=_FILES,
        tsv=Columns("sentence1", "sentence2", "score"),
        config="stsb",
        hub_splits=_HUB_SPLITS,
        hub=_PAIR,
        labels=(),
        regression=True,
    ),
    _task("wnli", "WNLI", _PAIR, ("not_entailment", "entailment")),
)

GLUE_TASKS: Mapping[str, GlueTask] = {task.name: task for task in _TASKS}


def glue_task(name: str) -> GlueTask:
    """Returns the task called `name`.

    Raises:
        UserError: there is no such task; the message lists them all.
    """
    if name not in GLUE_TASKS:
        raise unknown_name("task", name, GLUE_TASKS)
    return GLUE_TASKS[name]
