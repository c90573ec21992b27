"""The GLUE tasks: where their rows and labels are, in the official TSV files and on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attattr_batch.errors import unknown_name

GLUE_HUB_NAME = "nyu-mll/glue"
SPLITS = ("train", "dev", "test")
_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


@dataclass(frozen=True)
class Columns:
    """Column names of one layout; None where there is no second text or no label."""

    text_a: str
    text_b: str | None = None
    label: str | None = None

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
        labels: Label names; index = integer id, in the hub's order. None of them: the gold value is a score.
        tsv: Column names in the TSV files.
        hub: Column names on the hub.
        part: What the names of the dev and test splits end in, for example `_matched`.
        headerless: Columns of the splits whose TSV file has no header line.
        strip: Whether white space around the texts is dropped; true where the official files pad them.
        no_consensus: What the TSV files write where the annotators disagreed on the label.
    """

    name: str
    folder: str
    labels: tuple[str, ...]
    tsv: Columns
    hub: Columns
    part: str = ""
    headerless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    strip: bool = False
    no_consensus: str | None = None

    @property
    def config(self) -> str:
        """Configuration of the hub set `nyu-mll/glue`, for example `sst2`."""
        return self.folder.lower().replace("-", "")

    @property
    def regression(self) -> bool:
        """Whether the gold value is a score instead of a class."""
        return not self.labels

    def file(self, split: str) -> str:
        """TSV file of a split, for example `dev_matched.tsv`."""
        return f"{split}{'' if split == 'train' else self.part}.tsv"

    def hub_split(self, split: str) -> str:
        """The hub's name of a split, for example `validation_matched`."""
        return _HUB_SPLITS[split] + ("" if split == "train" else self.part)


_PAIR = Columns("sentence1", "sentence2", "label")
_SINGLE = Columns("sentence", None, "label")
_QNLI = Columns("question", "sentence", "label")
_MNLI_TSV, _MNLI_HUB = (
    Columns("sentence1", "sentence2", "gold_label"),
    Columns("premise", "hypothesis", "label"),
)
_MRPC_TSV = Columns("#1 String", "#2 String", "Quality")
_QQP_TSV = Columns("question1", "question2", "is_duplicate")
_QQP_HUB = Columns("question1", "question2", "label")
_STSB_TSV = Columns("sentence1", "sentence2", "score")
_COLA_HEADER = dict.fromkeys(("train", "dev"), ("source", "label", "star", "sentence"))

_ENTAILMENT = ("entailment", "not_entailment")
_THREE_WAY = ("entailment", "neutral", "contradiction")


def _mnli(name: str, part: str) -> GlueTask:
    return GlueTask(name, "MNLI", _THREE_WAY, _MNLI_TSV, _MNLI_HUB, part=part, no_consensus="-")


_TASKS = (
    GlueTask("cola", "CoLA", ("unacceptable", "acceptable"), _SINGLE, _SINGLE, headerless=_COLA_HEADER),
    _mnli("mnli", "_matched"),
    _mnli("mnli_mismatched", "_mismatched"),
    GlueTask("mrpc", "MRPC", ("not_equivalent", "equivalent"), _MRPC_TSV, _PAIR),
    GlueTask("qnli", "QNLI", _ENTAILMENT, _QNLI, _QNLI),
    GlueTask("qqp", "QQP", ("not_duplicate", "duplicate"), _QQP_TSV, _QQP_HUB),
    GlueTask("rte", "RTE", _ENTAILMENT, _PAIR, _PAIR),
    GlueTask("sst2", "SST-2", ("negative", "positive"), _SINGLE, _SINGLE, strip=True),
    GlueTask("stsb", "STS-B", (), _STSB_TSV, _PAIR),
    GlueTask("wnli", "WNLI", ("not_entailment", "entailment"), _PAIR, _PAIR),
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
