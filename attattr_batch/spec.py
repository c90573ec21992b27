"""Run specs: what to attribute, how and where, checked before any work.

A run has settings of data, method and machine. Users write all of them side by side, in YAML
(`{task: sst2, model: bundled, device: cpu}`), as flags and as keywords of `results.run`; the store keeps them
so too. The package gets them as the parts of a `RunSpec`, and hands each function the part it needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from attattr_batch.choices import Device, DType, ExecutorName, Quadrature, Target
from attattr_batch.errors import UserError, did_you_mean

BUNDLED = "bundled"
"""The name, for `model` and `data_dir` alike, of the mini-GLUE data and tiny models that ship with us."""


_PART = re.compile(r"(0|[1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


def _check_part(part: str) -> str:
    found = _PART.fullmatch(part)
    if found is None or int(found[1]) >= int(found[2]):
        raise ValueError(
            f"{part!r} names no part; allowed is K/N with K from 0 to N-1, for example 0/3, 1/3 and 2/3"
        )
    return part


class SpecModel(BaseModel):
    """Keys of a spec. The text under each is its meaning wherever it is shown: --help, docs/spec.md."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )

    command: ClassVar[str] = "run"
    """The command whose --help explains the keys."""


class DataSettings(SpecModel):
    """The rows: a GLUE task or a dataset of the user's own, and the split."""

    task: str | None = None
    """GLUE task, e.g. sst2. With `dataset`: the task whose columns and labels it has."""
    data_dir: str | None = None
    """Folder in the official GLUE TSV layout, or `bundled`. Default: the hub."""
    dataset: str | None = None
    """Your own data: a CSV, TSV, JSON or Parquet file, a folder, or a hub set; a spec names its `columns`."""
    dataset_config: str | None = None
    """Configuration of a hub set that has several."""
    dataset_revision: str | None = None
    """Revision of a hub set."""
    columns: dict[Literal["text_a", "text_b", "label"], str] | None = None
    """Columns of `dataset` by their role: `text_a`, `text_b` (second text of a pair) and `label`. Only
    `text_a` is required."""
    labels: list[str] | None = None
    """Label names of `dataset`, in the order of their integer ids (if all names are numbers, a number in the
    data is a name). Default: the names the data carries, else the texts in the label column, sorted (as
    numbers if all are)."""
    split: str = "dev"
    """Split of the data; `dev` finds `validation` too."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """First N rows only."""
    part: Annotated[str, AfterValidator(_check_part)] | None = None
    """Every N-th of these rows only, written `K/N` with K counted from 0: `3/8` takes rows 3, 11, 19, ...
    `attattr merge` puts the parts of a run into one store."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.task is None and self.dataset is None:
            raise ValueError("give `task` (a GLUE task) or `dataset` (a file or hub set with `columns`)")
        if self.dataset is not None and self.data_dir is not None:
            raise ValueError("`data_dir` and `dataset` exclude each other")
        return self


class MethodSettings(SpecModel):
    """How an example is attributed; decides the numbers."""

    max_length: Annotated[int, Field(ge=4, le=8192)] = 128
    """Tokens per example at most."""
    target: Target = "both"
    """Class attributed."""
    quadrature: Quadrature = "adaptive"
    """Integration rule: `adaptive` meets `tolerance`; the others are fixed and take `nodes`."""
    nodes: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Nodes of a fixed rule."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    """Largest integration error of any row and layer: of completeness, and along the path."""
    dtype: DType = "float32"
    """Arithmetic of the replays; what another format cannot certify is computed again in `float32`. `auto`
    takes `float16` on a GPU and `float32` on a CPU. Single heads are less exact in
    `bfloat16` (docs/attribution.md)."""
    top_k: Annotated[int, Field(ge=1, le=1000)] = 5
    """Edges kept in `edges`, per head."""
    edge_floor: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Smallest edge kept in `layer_edges`, as a share of the layer's largest entry; trees take no lower
    `tau`."""
    edge_cap: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Edges kept in `layer_edges`, per layer at most."""

    @model_validator(mode="after")
    def _check_quadrature(self) -> Self:
        if self.quadrature == "adaptive":
            if self.nodes is not None:
                raise ValueError("`nodes` needs a fixed `quadrature`; `adaptive` takes `tolerance`")
        elif self.tolerance != MethodSettings.model_fields["tolerance"].default:
            raise ValueError(f"`tolerance` needs `quadrature: adaptive`; `{self.quadrature}` takes `nodes`")
        elif self.nodes is None:
            raise ValueError(f"`quadrature: {self.quadrature}` needs `nodes`")
        return self


class WorkerPool(SpecModel):
    """Ray workers of one shape."""

    count: Annotated[int, Field(ge=1, le=4096)] = 1
    """Workers in the pool; those that find no room yet join when a machine does."""
    cpus: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPUs per worker."""
    gpus: Annotated[float, Field(ge=0, le=64)] = 0.0
    """GPUs per worker: whole ones, or a part of one, which several workers then share."""

    def __str__(self) -> str:
        return f"{self.count} x {self.cpus} CPUs, {self.gpus:g} GPUs"


class MachineSettings(SpecModel):
    """Where a pass is computed, and in what portions; decides speed, and changes numbers by rounding only.

    These always come from the present command or spec. What a run was made with does not bind later passes.
    """

    device: Device = "auto"
    """Device of the computation; `auto` takes CUDA if there is a GPU."""
    executor: ExecutorName = "auto"
    """`local` computes in this process, `ray` on Ray; `auto` takes Ray for an `address`, several GPUs or long
    work."""
    workers: (
        Annotated[int, Field(ge=1, le=4096)] | Annotated[list[WorkerPool], Field(min_length=1)] | None
    ) = None
    """Ray workers: a number, or in a spec a list of pools. Default: what fits here, or at `address`. On this
    machine no more than its GPUs have room for."""
    address: str | None = None
    """Address of a running Ray cluster."""
    batch_tokens: Annotated[int, Field(ge=128)] | None = None
    """Tokens computed at once. Default: what suits the device, its memory and the model's size."""
    chunk_deadline: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds until a Ray worker that does not answer is replaced; on a GPU, where a worker has two chunks,
    twice as long."""
    stage: str | None = None
    """Ray workers write results here (a shared folder or s3://...) instead of returning them."""

    @property
    def needs_ray(self) -> bool:
        """Whether it asks for more than this process has."""
        several = isinstance(self.workers, list) or (self.workers or 1) > 1
        return several or self.address is not None or self.stage is not None

    @model_validator(mode="after")
    def _check_executor(self) -> Self:
        if self.executor == "local" and self.needs_ray:
            raise ValueError(
                "the local executor has one worker, in this process; more `workers`, an `address` or a"
                " `stage` need `executor: ray`"
            )
        return self


class RunSpec(SpecModel):
    """One run: a model, the data, the method, and the machine that computes it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    """Name of the run. Default: task and model."""
    model: str
    """Model folder, hub id, or `bundled`."""
    revision: str | None = None
    """Revision of a hub model."""
    label_map: dict[Annotated[str, Field(coerce_numbers_to_str=True)], str] | None = None
    """Dataset label by model label (its name, or its output's index), if the names differ."""
    data: DataSettings
    method: MethodSettings = MethodSettings()
    machine: MachineSettings = MachineSettings()

    def flat(self) -> dict[str, Any]:
        """The settings side by side, as users write them; plain JSON values. `make_spec` reads them."""
        nested = self.model_dump(mode="json")
        parts = [nested.pop(part) for part in PARTS]
        return nested | {key: value for part in parts for key, value in part.items()}


class FinetuneSettings(SpecModel):
    """What `attattr finetune` trains, and how."""

    command: ClassVar[str] = "finetune"

    task: str
    """GLUE task."""
    base: str
    """Encoder to start from: folder or hub id."""
    output: Path
    """Folder for the checkpoint."""
    data_dir: str | None = None
    """Folder in the official GLUE TSV layout. Default: the hub."""
    epochs: Annotated[float, Field(ge=0.01)] = 3.0
    """Times that all training rows are seen."""
    learning_rate: Annotated[float, Field(ge=0)] = 2e-5
    """Peak of the linear schedule, which warms up over a tenth of the steps."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in a step."""
    max_length: Annotated[int, Field(ge=4)] = 128
    """Tokens per example at most."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """First N training rows only."""
    seed: int = 0
    """Seed of the new weights and of the order of rows."""


PARTS: dict[str, type[SpecModel]] = {
    "data": DataSettings,
    "method": MethodSettings,
    "machine": MachineSettings,
}
"""The parts of a run spec. Users never write their names."""

RUN_KEYS: dict[str, FieldInfo] = {
    name: field
    for key, own in RunSpec.model_fields.items()
    for name, field in (PARTS[key].model_fields if key in PARTS else {key: own}).items()
}
"""Every key that users write for a run, with its type, default and meaning."""


def make_spec(values: Mapping[str, Any], where: str = "the command line") -> RunSpec:
    """Checks the settings of one run and sorts them into their parts.

    Args:
        values: Settings by key, side by side: `{"task": "sst2", "model": "bundled", "device": "cpu"}`.
        where: Where they come from, for messages.

    Raises:
        UserError: names every offending key, with the nearest known key for a misspelt one.
    """
    rest = dict(values)
    parts = {
        part: {key: rest.pop(key) for key in kind.model_fields if key in rest} for part, kind in PARTS.items()
    }
    own = {key: rest.pop(key) for key in RunSpec.model_fields if key in rest and key not in PARTS}
    parts["data"] |= rest  # what is left is no key, and refused there
    return make_settings(RunSpec, own | parts, where)


Settings = TypeVar("Settings", bound=SpecModel)


def make_settings(
    kind: type[Settings], values: Mapping[str, Any], where: str = "the command line"
) -> Settings:
    """Checks the settings of one part of a run, for example `make_settings(MachineSettings, flags)`.

    Raises:
        UserError: as for `make_spec`.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(
            f"the settings from {where} cannot be used",
            got="; ".join(_explain(item, kind) for item in error.errors()),
            hint=f"`attattr {kind.command} --help` explains every setting",
        ) from error


def _explain(item: Any, kind: type[SpecModel]) -> str:
    path = item["loc"]
    if kind is RunSpec and path[0] in PARTS:  # users do not write the parts
        path = path[1:]
    key = ".".join(map(str, path))
    if item["type"] == "extra_forbidden":
        hint = did_you_mean(key, RUN_KEYS if kind is RunSpec else kind.model_fields)
        return f"unknown key {key!r}" + (f" ({hint})" if hint else "")
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
