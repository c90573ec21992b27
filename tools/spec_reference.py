"""docs/spec.md, generated from the models that check a run spec."""

from __future__ import annotations

from typing import Any

from attattr_batch.spec import (
    PARTS,
    DataSettings,
    MachineSettings,
    MethodSettings,
    RunSpec,
    SpecModel,
    WorkerPool,
)

_INTRODUCTION = """\
# Run spec

Generated from `attattr_batch/spec.py` by `make docs`; `make check` keeps it up to date.

A spec is a YAML file for `attattr run`, `attattr submit` and `attattr schedule add`. It holds the keys of one
run, or a list of `runs:` and `defaults:`, the values of keys that a run does not have:

```yaml
defaults: {model: ./my-classifier, tolerance: 0.01}
runs:
  - {task: sst2, data_dir: ./glue}
  - {name: reviews, dataset: ./reviews.csv, columns: {text_a: text, label: verdict}, split: test}
```

Paths are relative to the file. Flags of `attattr run` win over it (`--data-dir` is `data_dir`), and
`results.run(...)` takes the same keys. `model` is required, and one of `task` and `dataset`; `data_dir` is
for GLUE tasks alone. An unknown key is refused. In [schedules](schedules.md) a spec may hold dates and watch
for new checkpoints.
"""

_EXAMPLES = """\
## Examples

A file of pairs with labels of its own; the first of `labels` has id 0:

```yaml
dataset: ./claims.csv
columns: {text_a: claim, text_b: evidence, label: verdict}
labels: [refuted, supported]
model: ./my-classifier
```

A model whose labels have other names than the dataset's. If a model has no names (`LABEL_0`, `LABEL_1`, ...),
its labels are taken to be in the dataset's order, with a warning; `label_map` makes it certain:

```yaml
task: sst2
model: org/sentiment
label_map: {NEG: negative, POS: positive}      # or by output: {0: negative, 1: positive}
```

Eight workers with a GPU each and two on CPUs, on one queue ([clusters](cluster.md)):

```yaml
task: sst2
model: /models/sst2
address: "head:6379"
workers: [{gpus: 1, count: 8}, {cpus: 4, count: 2}]
```
"""


def reference_markdown() -> str:
    """The whole reference as Markdown."""
    return "\n".join(
        [
            _INTRODUCTION,
            *_section("The run and its model", RunSpec),
            *_section("The data", DataSettings),
            *_section("The method", MethodSettings),
            *_section("The machine", MachineSettings),
            *_section("A pool of `workers`", WorkerPool),
            _EXAMPLES,
        ]
    )


def _section(title: str, model: type[SpecModel]) -> list[str]:
    """The table of the keys of a model that users write; the parts of a run have tables of their own."""
    schema = model.model_json_schema()
    fields = {key: field for key, field in schema["properties"].items() if key not in PARTS}
    rows = [_row(key, field, needed=key in schema.get("required", ())) for key, field in fields.items()]
    return [f"## {title}", "", "| key | value | default | meaning |", "|---|---|---|---|", *rows, ""]


def _row(key: str, field: dict[str, Any], *, needed: bool) -> str:
    default = field.get("default")
    default = f"{default:g}" if isinstance(default, float) else default
    shown = "needed" if needed else "" if default is None else f"`{default}`"
    meaning = " ".join(field["description"].split())
    return f"| `{key}` | {_value(field)} | {shown} | {meaning} |"


def _value(field: dict[str, Any]) -> str:
    """What a value may be, from its JSON schema."""
    if "anyOf" in field:
        return ", or ".join(_value(one) for one in field["anyOf"] if one.get("type") != "null")
    if "enum" in field:
        return ", ".join(f"`{one}`" for one in field["enum"])
    if "$ref" in field:
        return "pools"
    kind = field["type"]
    if kind == "array":
        return f"list of {_value(field['items'])}"
    if kind == "object":
        keys = field.get("propertyNames")
        return f"mapping of {_value(keys) if keys else 'text'} to {_value(field['additionalProperties'])}"
    name = {"string": "text", "integer": "integer", "number": "number"}[kind]
    return name + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    if "pattern" in field:
        return ": letters, digits, `.`, `_`, `-`, at most 100"
    if "minimum" in field and "maximum" in field:
        return f" {field['minimum']} to {field['maximum']}"
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
    return " and".join(f" {sign} {field[bound]}" for bound, sign in signs.items() if bound in field)
