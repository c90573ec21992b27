"""Run specs: what to attribute and how, read from YAML and command-line flags, checked before any work."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attattr_batch.choices import DType, Target
from attattr_batch.errors import UserError, did_you_mean

BUNDLED = "bundled"
"""The name, for `model` and `data_dir` alike, of the mini-GLUE data and tiny models that ship with us."""

Quadrature = Literal[
    "adaptive",
    "gauss-legendre",
    "gauss-lobatto",
    "clenshaw-curtis",
    "left-riemann",
    "right-riemann",
    "midpoint",
    "trapezoid",
]
Device = Literal["auto", "cpu", "cuda"]
ExecutorName = Literal["auto", "local", "ray"]


class SpecModel(BaseModel):
    """Keys of a spec. The text under each is its meaning wherever it is shown: --help, docs/spec.md."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )


class WorkerPool(SpecModel):
    """Ray workers of one shape."""

    count: Annotated[int, Field(ge=1, le=4096)] = 1
    """How many; those that find no room yet join when a machine does."""
    cpus: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPUs of each."""
    gpus: Annotated[float, Field(ge=0, le=64)] = 0.0
    """GPUs of each; fractions share one."""

    def __str__(self) -> str:
        return f"{self.count} x {self.cpus} CPUs, {self.gpus:g} GPUs"


class Machine(SpecModel):
    """Where a pass is computed, and in what portions: decides speed, and no number beyond rounding.

    Always the present command's or spec's; what a run was made with does not bind the passes after it.
    """

    device: Device = "auto"
    """Device of the computation; `auto` takes CUDA where there is a GPU."""
    executor: ExecutorName = "auto"
    """In this process, or on Ray; `auto` takes Ray for an address, several GPUs or long work."""
    workers: (
        Annotated[int, Field(ge=1, le=4096)] | Annotated[list[WorkerPool], Field(min_length=1)] | None
    ) = None
    """Ray workers: a number, or in a spec a list of pools. Without it: what fits here, or at `address`."""
    address: str | None = None
    """Address of a running Ray cluster."""
    batch_tokens: Annotated[int, Field(ge=128)] | None = None
    """Tokens computed at once. Without it: what suits the device and the model's width."""
    chunk_deadline: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds until a Ray worker that does not answer is replaced."""
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


class RunSpec(Machine):
    """One run: a model, a dataset split and a method, plus where to compute it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    """Name of the run. Without it: task and model."""
    task: str | None = None
    """GLUE task, e.g. sst2; beside `dataset`, the one whose columns and labels it has."""
    model: str
    """Model folder, hub id, or `bundled`."""
    revision: str | None = None
    """Revision of a hub model."""
    data_dir: str | None = None
    """Folder in the official GLUE TSV layout, or `bundled`. Without it: the hub."""
    dataset: str | None = None
    """Your own data: a CSV, TSV, JSON or Parquet file, a folder, or a hub set; a spec names its `columns`."""
    dataset_config: str | None = None
    """Configuration of a hub set that has several."""
    dataset_revision: str | None = None
    """Revision of a hub set."""
    columns: dict[Literal["text_a", "text_b", "label"], str] | None = None
    """Column of `dataset` for each of `text_a`, `text_b` (second text of a pair) and `label`; only `text_a`
    is needed."""
    labels: list[str] | None = None
    """Label names of `dataset`, in the order of their integer ids (a number in the data is a name where all
    names are numbers). Without it: those the data carries, else
    the texts in the label column, sorted (as numbers where all are)."""
    label_map: dict[Annotated[str, Field(coerce_numbers_to_str=True)], str] | None = None
    """Dataset label by model label (its name, or its output's index), where the names differ."""
    split: str = "dev"
    """Split of the data; `dev` finds `validation` too."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """First N rows only."""
    max_length: Annotated[int, Field(ge=4, le=8192)] = 128
    """Tokens per example at most."""

    target: Target = "both"
    """Class attributed."""
    quadrature: Quadrature = "adaptive"
    """Integration rule: `adaptive` meets `tolerance`, the others are fixed and take `nodes`."""
    nodes: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Nodes of a fixed rule."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    """Largest integration error of any row and layer: of completeness, and along the path."""
    dtype: DType = "float32"
    """Arithmetic of the replays. What `bfloat16` cannot certify is computed again in `float32`; single heads
    are less exact in it (docs/attribution.md)."""
    top_k: Annotated[int, Field(ge=1, le=1000)] = 5
    """Edges kept in `edges`, per head."""
    edge_floor: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Smallest edge kept in `layer_edges`, as a share of the layer's largest entry; trees take no lower
    `tau`."""
    edge_cap: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Edges kept in `layer_edges`, per layer at most."""

    @model_validator(mode="after")
    def _check_combinations(self) -> RunSpec:
        if self.task is None and self.dataset is None:
            raise ValueError("give `task` (a GLUE task) or `dataset` (a file or hub set with `columns`)")
        if self.dataset is not None and self.data_dir is not None:
            raise ValueError("`data_dir` and `dataset` exclude each other")
        if self.nodes is not None and self.quadrature == "adaptive":
            raise ValueError("`nodes` needs a fixed `quadrature`; `adaptive` takes `tolerance`")
        if self.quadrature != "adaptive" and self.tolerance != RunSpec.model_fields["tolerance"].default:
            raise ValueError(f"`tolerance` needs `quadrature: adaptive`; `{self.quadrature}` takes `nodes`")
        if self.nodes is None and self.quadrature != "adaptive":
            raise ValueError(f"`quadrature: {self.quadrature}` needs `nodes`")
        minimum = {"trapezoid": 2, "clenshaw-curtis": 2, "gauss-lobatto": 2}.get(self.quadrature, 1)
        if self.nodes is not None and self.nodes < minimum:
            raise ValueError(f"`quadrature: {self.quadrature}` needs `nodes` >= {minimum}")
        return self


# Beside its own errors, PyYAML lets through what Python says of `!!int x`, `2001-99-99`, `!!bool x` or
# `!!timestamp x`, and of a document that is nested too deep.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)

# Keys whose value is a path when it names something on disk; relative to the spec file.
_PATH_KEYS = ("data_dir", "model", "dataset", "stage")


def load_spec(
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    prepare: Callable[[str], str] = lambda text: text,
) -> list[RunSpec]:
    """Reads a spec file into runs.

    The file is a mapping of run keys, or `defaults:` with such keys and `runs:` with a list of them.

    Args:
        path: The file.
        overrides: Settings that win over the file's (command-line flags).
        prepare: Applied to the file's text before it is read as YAML.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, or a value is not allowed.
    """
    try:
        text = prepare(path.read_text(encoding="utf-8"))
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot read the run spec", got=f"{path}: {error}", hint="check the path") from error
    except _YAML_ERRORS as error:
        got = f"{path}: {str(error) or type(error).__name__}"
        raise UserError("the run spec is not valid YAML", got=got) from error
    mappings = _run_mappings(content, path)
    if len(mappings) > 1 and (overrides or {}).get("name") is not None:
        raise UserError(
            "`name` cannot be given for several runs at once",
            got=f"{path} holds {len(mappings)} runs",
            hint="give each its `name` in the spec",
        )
    runs = []
    for mapping in mappings:
        resolved = {key: _resolve(key, value, path.parent) for key, value in mapping.items()}
        runs.append(make_spec({**resolved, **(overrides or {})}, where=str(path)))
    return runs


def make_spec(values: Mapping[str, Any], where: str = "the command line") -> RunSpec:
    """Checks one mapping of run keys.

    Raises:
        UserError: names every offending key, with the nearest known key for a misspelt one.
    """
    return _checked(RunSpec, values, where)


def make_machine(values: Mapping[str, Any], where: str = "the command line") -> Machine:
    """Checks a mapping of those run keys that say where to compute; raises as `make_spec` does."""
    return _checked(Machine, values, where)


Settings = TypeVar("Settings", bound=Machine)


def _checked(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problems = [_explain(item, kind) for item in error.errors()]
        raise UserError(
            f"the run settings from {where} are not usable",
            got="; ".join(problems),
            hint="`attattr run --help` explains every setting, also those that only a spec has",
        ) from error


def _run_mappings(content: Any, path: Path) -> list[dict[str, Any]]:
    if not isinstance(content, dict):
        raise UserError(
            "a run spec must be a mapping",
            got=f"{path}: {type(content).__name__}",
            allowed="run keys, or `defaults:` and `runs:`",
        )
    if "runs" not in content and "defaults" not in content:
        return [content]
    extra = set(content) - {"runs", "defaults"}
    if extra:
        raise UserError(
            "a spec with `runs:` may only hold `defaults:` beside it",
            got=f"{path}: {', '.join(sorted(map(str, extra)))}",
        )
    defaults, runs = content.get("defaults") or {}, content.get("runs")
    if not isinstance(defaults, dict) or not isinstance(runs, list) or not runs:
        raise UserError("`defaults:` must be a mapping and `runs:` a non-empty list", got=str(path))
    for position, run in enumerate(runs):
        if not isinstance(run, dict):
            got = f"{path}, entry {position}: {reprlib.repr(run):.200}"
            raise UserError("every entry of `runs:` must be a mapping", got=got)
    return [{**defaults, **run} for run in runs]


def _resolve(key: str, value: Any, folder: Path) -> Any:
    if key not in _PATH_KEYS or not isinstance(value, str) or value == BUNDLED:
        return value
    try:
        candidate = folder / Path(value).expanduser()
        # A `*` watches a folder of checkpoints (schedules). A stage is a folder or an address, and is made.
        looks_like_path = value.startswith((".", "/", "~")) or "*" in value or candidate.exists()
        if key == "stage":
            looks_like_path = "://" not in value
        return str(candidate.resolve()) if looks_like_path else value
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null character, nobody's home
        got = f"{key}: {reprlib.repr(value):.200}: {error}"
        raise UserError("a path in the run spec cannot be used", got=got) from error


def _explain(item: Any, kind: type[Machine]) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "settings"
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}" + _suffix(did_you_mean(key, kind.model_fields))
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if item["loc"] else message


def _suffix(hint: str | None) -> str:
    return f" ({hint})" if hint else ""
