"""Finds the rows that a run asks for: bundled, a GLUE folder, a file, or the Hugging Face hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from attattr_batch.data.column_roles import make_dataset
from attattr_batch.data.records import Dataset
from attattr_batch.data.tasks import GLUE_HUB_NAME, GLUE_TASKS, SPLITS, Columns, GlueTask, glue_task
from attattr_batch.data.text_files import read_text_file
from attattr_batch.errors import UserError, unknown_name
from attattr_batch.files import bundled_folder, user_path
from attattr_batch.spec import BUNDLED, DataSettings


def load_dataset_for(settings: DataSettings) -> Dataset:
    """Loads the rows of a run.

    `dataset` names a file, folder or hub set of the user's own; else `task` is a GLUE task and comes from
    `data_dir` (official TSV files, or "bundled"), or without it from the hub. No code from a data repository
    is ever run.

    Raises:
        UserError: unknown task or split, regression task, missing file or column, broken row, unknown
            label, unreachable hub, or no rows at all.
    """
    if settings.dataset is not None:
        dataset = _load_own(settings, settings.dataset)
    elif settings.data_dir is not None:
        dataset = _load_folder(settings, _classification_task(settings))
    else:
        dataset = _load_glue_hub(settings, _classification_task(settings))
    if not dataset.examples:
        raise UserError("the split has no rows", got=dataset.source, hint="check the file and the split")
    return dataset


def _classification_task(settings: DataSettings) -> GlueTask:
    task = glue_task(settings.task or "")
    if task.regression:
        raise UserError(
            f"task {task.name!r} is a regression task: its model has one output, the softmax of one output "
            "is constantly 1, and self-attention attribution is undefined",
            got=task.name,
            allowed=", ".join(sorted(name for name, other in GLUE_TASKS.items() if not other.regression)),
        )
    if settings.split not in SPLITS:
        raise unknown_name("GLUE split", settings.split, SPLITS)
    own = ["columns", "labels", "dataset_config"] + (["dataset_revision"] if settings.data_dir else [])
    if useless := [key for key in own if getattr(settings, key) is not None]:
        hint = "give `dataset` as well, or leave them out"
        raise UserError(
            f"these settings do not go with GLUE task {task.name!r}", got=", ".join(useless), hint=hint
        )
    return task


def _load_folder(settings: DataSettings, task: GlueTask) -> Dataset:
    path, columns = _glue_file(settings, task), task.tsv
    if not path.is_file():
        raise _missing_file(path, _glue_folder(settings))
    table = read_text_file(path, columns.names, task.headerless.get(settings.split), settings.limit)
    if settings.data_dir == BUNDLED:
        table = replace(table, source=f"{BUNDLED}: {path.relative_to(_glue_folder(settings))}")
    if settings.split == "test" and columns.label not in table.names:
        columns = replace(columns, label=None)
    return make_dataset(table, columns, settings, unlabelled=(task.no_consensus,))


def _glue_file(settings: DataSettings, task: GlueTask) -> Path:
    return _glue_folder(settings) / task.folder / task.file(settings.split)


def _glue_folder(settings: DataSettings) -> Path:
    return bundled_folder() / "data" if settings.data_dir == BUNDLED else user_path(settings.data_dir or "")


def _missing_file(path: Path, folder: Path) -> UserError:
    if not folder.is_dir():
        return UserError("the data folder does not exist", got=folder, hint="check `data_dir`")
    there = [
        f"{task.name} ({split})"
        for task in GLUE_TASKS.values()
        for split in SPLITS
        if (folder / task.folder / task.file(split)).is_file() and not task.regression
    ]
    return UserError(
        "the data folder lacks the task's file",
        got=f"no file {path}",
        allowed=f"found there: {', '.join(there) or 'no GLUE file in the official TSV layout'}",
        hint="choose one of these, or leave `data_dir` out to load the task from the hub",
    )


# The two below import `datasets` when called: it takes a second that TSV files do not need.


def _load_glue_hub(settings: DataSettings, task: GlueTask) -> Dataset:
    from attattr_batch.data.user_files import open_hub

    table = open_hub(GLUE_HUB_NAME, task.config, settings.dataset_revision, task.hub_split(settings.split))
    return make_dataset(table, task.hub, settings)


def _load_own(settings: DataSettings, name: str) -> Dataset:
    from attattr_batch.data.user_files import open_table

    task = GLUE_TASKS.get(settings.task or "")
    if settings.columns is not None and "text_a" in settings.columns:
        columns = Columns(**settings.columns)
    elif settings.columns is None and task is not None:
        columns = task.hub
    else:
        hint = "for example `columns: {text_a: sentence, label: label}`; text_b and label may be left out"
        raise UserError("`dataset` needs `columns` that name the text", got=settings.columns, hint=hint)
    config, revision = settings.dataset_config, settings.dataset_revision
    table = open_table(name, config, revision, settings.split, columns.names)
    return make_dataset(table, columns, settings)
