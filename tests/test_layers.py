"""The layers: imports go down only, and heavy packages are imported where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "attattr_batch"

# Lowest first; a layer may import itself and those before it.
LAYERS: list[set[str]] = [
    {"errors"},
    {
        "choices",
        "cpus",
        "files",
        "records",
        "resources",
        "identity",
        "markup",
        "progress_bars",
        "spreadsheet",
    },
    {"spec"},
    {"engine", "data", "store"},
    {"passes"},
    {"runtime"},
    {"analysis"},
    {"api", "results", "schedule", "report", "cli", "__init__", "__main__"},
]

# Which folders or files may import a package.
ONLY_IN = {
    "torch": ("engine/", "passes/", "data/"),
    "transformers": ("engine/", "data/"),
    "ray": ("runtime/executors/ray",),
    "duckdb": ("store/",),
    "duckdb_sqlalchemy": ("store/",),
    "alembic": ("store/",),
    "altair": ("report/",),
    "typer": ("cli/",),
}

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imports(path: str) -> list[tuple[str, int]]:
    """Absolute module names imported by a file, anywhere in it, with line numbers."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.append((node.module or "", node.lineno))
    return found


def layer_of(name: str) -> int:
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    raise AssertionError(f"{name} stands in no layer: add it to LAYERS")


@pytest.mark.parametrize("path", FILES)
def test_imports_go_down(path: str) -> None:
    own = path.split("/")[0].removesuffix(".py")
    for module, line in imports(path):
        if module.startswith("attattr_batch."):
            other = module.split(".")[1]
            below = layer_of(other) < layer_of(own)
            assert other == own or below or layer_of(own) == len(LAYERS) - 1, f"{path}:{line}: {module}"


def test_engine_data_and_store_do_not_know_each_other() -> None:
    siblings = {"engine", "data", "store"}
    for path in FILES:
        own = path.split("/")[0]
        if own in siblings:
            others = {f"attattr_batch.{name}" for name in siblings - {own}}
            for module, line in imports(path):
                assert ".".join(module.split(".")[:2]) not in others, f"{path}:{line}: {module}"


@pytest.mark.parametrize("path", FILES)
def test_heavy_packages_stay_in_their_place(path: str) -> None:
    for module, line in imports(path):
        allowed = ONLY_IN.get(module.split(".")[0])
        assert allowed is None or path.startswith(allowed), f"{path}:{line}: imports {module}"


@pytest.mark.parametrize(
    "module",
    [
        *("runtime.executors.ray", "runtime.executors.ray_actor", "runtime.executors.ray_jobs"),
        *("runtime.driver", "runtime.staging", "analysis.runner", "results"),
    ],
)
def test_what_uses_no_model_needs_no_torch(module: str) -> None:
    """It takes five seconds to import."""
    script = f"import attattr_batch.{module}, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_one_text_needs_no_database() -> None:
    """With torch loaded, DuckDB's bindings end a script with a page of leak reports."""
    script = "import attattr_batch.api, sys; print('duckdb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_rule_would_see_an_upward_import() -> None:
    assert layer_of("engine") < layer_of("runtime")
    with pytest.raises(AssertionError, match="no layer"):
        layer_of("somewhere")
