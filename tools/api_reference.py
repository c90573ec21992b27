"""docs/api.md, generated from the docstrings of what `attattr_batch` offers in Python."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import attattr_batch
from attattr_batch.analysis.audits import AuditResult
from attattr_batch.analysis.runner import JobResult
from attattr_batch.analysis.trees import Tree
from attattr_batch.runtime.run import RunSummary

INTRODUCTION = """\
# Python API

Generated from the docstrings by `make docs`; `make check` keeps it up to date.

Layer and head indices are 0-based. Tables come as Arrow; `.to_pandas()` of one gives a data frame. What the
user can mend is raised as `attattr_batch.UserError`, whose text says what, got, allowed and what to do next.

A script that attributes into a store, or has jobs do so, may end with lines `nanobind: leaked ...` on stderr:
DuckDB's bindings print them at exit where torch is loaded too, and nothing is wrong.
"""

SECTIONS: dict[str, tuple[Any, ...]] = {
    "One text": (attattr_batch.attribute, attattr_batch.Attribution, attattr_batch.Edge),
    "A store": (attattr_batch.open, attattr_batch.Results),
    "What its methods return": (RunSummary, JobResult, Tree, AuditResult),
    "Errors": (
        attattr_batch.AttattrError,
        attattr_batch.UserError,
        attattr_batch.StoreError,
        attattr_batch.TerminalError,
    ),
}


def api_markdown() -> str:
    """The whole reference as Markdown."""
    lines = [INTRODUCTION]
    for title, objects in SECTIONS.items():
        lines += [f"## {title}", ""]
        for one in objects:
            lines += _entry(one)
    return "\n".join(lines)


def _entry(one: Any) -> Iterator[str]:
    """Heading, signature and docstring of a function or class, then its public methods."""
    yield from _described(f"### {_address(one)}", one)
    if inspect.isclass(one):
        for name, method in vars(one).items():
            if not name.startswith("_") and inspect.isfunction(method):
                yield from _described(f"#### {one.__name__}.{name}", method)


def _described(heading: str, one: Any) -> Iterator[str]:
    yield from (heading, "")
    if inspect.isfunction(one):
        yield from ("```python", f"{one.__name__}{_signature(one)}", "```", "")
    text = inspect.getdoc(one)
    if not text:
        raise ValueError(f"{heading}: no docstring")
    yield from ("```text", text, "```", "")


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [one for name, one in signature.parameters.items() if name != "self"]
    shown = _unquoted(signature.replace(parameters=parameters))
    if len(shown) < 90:
        return shown
    words = [_unquoted(inspect.Signature([one]))[1:-1].removeprefix("*, ") for one in parameters]
    kinds = [one.kind for one in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        words.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    inner = "".join(f"    {word},\n" for word in words)
    return f"(\n{inner}) -> {signature.return_annotation}"


def _unquoted(signature: inspect.Signature) -> str:
    """The signature without the quotes that postponed annotations have."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature))


def _address(one: Any) -> str:
    offered = getattr(attattr_batch, one.__name__, None) is one
    return f"attattr_batch.{one.__name__}" if offered else f"{one.__module__}.{one.__name__}"
