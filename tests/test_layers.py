"""The layers: imports go down only, and heavy packages are imported where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "attattr_batch"

# Lowest first; a module or folder may import itself and layers before its own, in the last one anything.
LAYERS: list[set[str]] = [
    {"errors"},
    {"choices", "files", "identity", "markup"},
    {"spec"},
    {"spec_file"},
    {"data"},
    {"engine", "store"},
    {"passes"},
    {"runtime"},
    {"analysis"},
    {"api", "results", "schedule", "report", "cli", "__init__", "__main__"},
]

# Which folders or files may import a package.
ONLY_IN = {
    "torch": ("engine/", "passes/", "data/"),
    "transformers": ("engine/", "data/"),
    "ray": ("runtime/executors/ray", "runtime/submission"),
    "duckdb": ("store/",),
    "duckdb_sqlalchemy": ("store/",),
    "alembic": ("store/",),
    "altair": ("report/",),
    "typer": ("cli/",),
}

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imports(path: str, package: Path = PACKAGE) -> list[tuple[str, int]]:
    """Absolute module names imported by a file, anywhere in it, with line numbers."""
    tree = ast.parse((package / path).read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            of_ours = node.module == PACKAGE.name  # `from attattr_batch import runtime` names a module too
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if of_ours else [node.module or ""]
            )
            found += [(name, node.lineno) for name in names]
    return found


def layer_of(name: str) -> int:
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    raise AssertionError(f"{name} stands in no layer: add it to LAYERS")


def offences(path: str, package: Path = PACKAGE) -> list[str]:
    """The imports of a file that the rules above forbid."""
    own = path.split("/")[0].removesuffix(".py")
    found = []
    for module, line in imports(path, package):
        first, _, rest = module.partition(".")
        if first == PACKAGE.name and rest and layer_of(own) < len(LAYERS) - 1:
            other = rest.split(".")[0]
            allowed = other == own or layer_of(other) < layer_of(own)
        else:
            allowed = path.startswith(ONLY_IN.get(first, ""))
        if not allowed:
            found.append(f"{path}:{line}: {module}")
    return found


@pytest.mark.parametrize("path", FILES)
def test_imports_go_down_and_heavy_packages_stay_in_their_place(path: str) -> None:
    assert offences(path) == []


@pytest.mark.parametrize(
    "module",
    [
        *("runtime.executors.ray", "runtime.executors.ray_workers", "runtime.submission"),
        *("runtime.driver", "runtime.staging", "analysis.runner", "results", "schedule.running"),
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


PLANTED = [
    ("errors.py", "import attattr_batch.spec"),
    ("engine/planted.py", "from attattr_batch.runtime.driver import drive"),
    ("engine/planted.py", "from attattr_batch import runtime"),
    (
        "engine/planted.py",
        "import attattr_batch.store.database.connection",
    ),  # siblings do not know each other
    ("store/planted.py", "def later():\n    from attattr_batch.engine import models"),
    ("analysis/planted.py", "import attattr_batch.cli.main as main"),
    ("runtime/planted.py", "import torch.nn"),
    ("store/planted.py", "from transformers import AutoModel"),
    ("runtime/executors/local.py", "import ray"),
    ("cli/planted.py", "import duckdb"),
]


@pytest.mark.parametrize(("path", "text"), PLANTED)
def test_a_planted_import_is_seen(tmp_path: Path, path: str, text: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    lawful = "import json\nimport attattr_batch.errors\n" if path != "errors.py" else ""
    (tmp_path / path).write_text(lawful)
    assert offences(path, tmp_path) == []
    (tmp_path / path).write_text(f"{lawful}{text}\n")
    (seen,) = offences(path, tmp_path)
    assert seen.startswith(f"{path}:")


def test_a_module_without_a_layer_is_seen() -> None:
    with pytest.raises(AssertionError, match="no layer"):
        layer_of("somewhere")
