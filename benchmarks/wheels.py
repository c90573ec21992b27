"""The packages that a machine without a package index lacks: fetched, carried in packs, and installed.

    python benchmarks/wheels.py fetch .wheels          # here: packs of at most 60 MB, large wheels in parts
    python benchmarks/wheels.py install .wheels SITE   # there: into a folder of its own, pack by pack
    python benchmarks/wheels.py missing                # there: what is missing still, and what is skipped

Needs nothing but Python and pip.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WANTED = (
    "alembic annotated-types attrs beartype certifi charset-normalizer cronsim datasets dill duckdb"
    " duckdb-sqlalchemy httpcore2 httpx2 hypothesis idna jsonschema jsonschema-specifications mako msgpack"
    " multiprocess protobuf psutil pyarrow pydantic pydantic-core pytest-timeout pytz pyyaml ray referencing"
    " requests rpds-py sortedcontainers sqlalchemy typing-inspection urllib3 xxhash"
).split()
"""What a run and the tests need beside torch and transformers and what these bring; see constraints.txt."""

PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
PART_BYTES, PACK_BYTES = 2_500_000, 60_000_000

NEEDS = {
    "anything at all": "torch",
    "the engine: its tests, and every part of the benchmark but the machine's rates": (
        "numpy transformers safetensors pydantic jaxtyping"
    ),
    "every test": "pytest pytest_timeout beartype hypothesis",
    "rows for the store, and whole runs, their tests included": (
        "pyarrow sqlalchemy duckdb duckdb_sqlalchemy alembic mako pytz yaml typer rich datasets"
    ),
    "Ray workers and their tests": "ray msgpack jsonschema google.protobuf requests psutil",
}
"""What is skipped without which packages, by the names under which they are imported."""


def fetch(folder: Path) -> None:
    """Downloads wheels for CPython 3.12 on x86-64 Linux in constraints.txt's versions, and packs them."""
    with tempfile.TemporaryDirectory() as scratch:
        where = ["--python-version", "3.12", "--implementation", "cp", "--only-binary", ":all:"]
        where += [option for name in PLATFORMS for option in ("--platform", f"{name}_x86_64")]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, *where]
        subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), *WANTED], check=True)
        for number, pack in enumerate(packs(Path(scratch)), 1):
            to = folder / f"pack-{number}"
            shutil.rmtree(to, ignore_errors=True)
            to.mkdir(parents=True)
            for file in pack:
                shutil.move(file, to)
            print(f"{to}: {sum(file.stat().st_size for file in to.iterdir()) / 1e6:.1f} MB")


def packs(folder: Path) -> list[list[Path]]:
    """Cuts the folder's large wheels into parts, and sorts all files into packs.

    Small wheels come first, Ray's parts last, so that all but the last pack do for everything but Ray.
    """
    for wheel in list(folder.glob("*.whl")):
        if wheel.stat().st_size > PART_BYTES:
            cut(wheel)
    found: list[list[Path]] = []
    for file in sorted(folder.iterdir(), key=_place):
        size = file.stat().st_size
        room = (one for one in found if sum(other.stat().st_size for other in one) + size <= PACK_BYTES)
        pack = next(room, None)
        if pack is None:
            found.append(pack := [])
        pack.append(file)
    return found


def _place(file: Path) -> tuple[int, int, str]:
    late = [file.name.startswith(f"{name}-") for name in ("duckdb", "pyarrow", "ray")]
    return late.index(True) + 1 if any(late) else 0, -file.stat().st_size, file.name


def cut(wheel: Path) -> None:
    """Replaces a wheel by its parts, `NAME.whl.part-02-of-08`."""
    content = wheel.read_bytes()
    pieces = [content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES)]
    for number, piece in enumerate(pieces, 1):
        name = f"{wheel.name}.part-{number:02}-of-{len(pieces):02}"
        wheel.with_name(name).write_bytes(piece)
    wheel.unlink()


def install(folder: Path, site: Path) -> None:
    """Installs the folder's wheels; parts are kept beside `site` until all of a wheel have been brought."""
    kept = site.with_name(f"{site.name}-parts")
    kept.mkdir(parents=True, exist_ok=True)
    for part in folder.rglob("*.part-*-of-*"):
        shutil.copy(part, kept)
    wheels = [*folder.rglob("*.whl"), *joined(kept)]
    if not wheels:
        print(f"no whole wheel in {folder}")
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    pip += ["--no-cache-dir", "--disable-pip-version-check", "--upgrade", "--target", str(site)]
    subprocess.run([*pip, *map(str, wheels)], check=True)
    for wheel in kept.glob("*.whl"):
        wheel.unlink()
    print(f"installed {len(wheels)} wheels of {folder} in {site}")


def joined(folder: Path) -> list[Path]:
    """The wheels of which all parts are there, put together; says which others still lack some."""
    wheels = []
    for first in sorted({part.name.rpartition(".part-")[0] for part in folder.glob("*.part-*-of-*")}):
        parts = sorted(folder.glob(f"{first}.part-*-of-*"))
        of = int(parts[0].name.rpartition("-")[2])
        if len(parts) < of:
            print(f"{first}: {len(parts)} of {of} parts, waiting for the others")
            continue
        wheels.append(folder / first)
        wheels[-1].write_bytes(b"".join(part.read_bytes() for part in parts))
        for part in parts:
            part.unlink()
    return wheels


def missing() -> dict[str, list[str]]:
    """By what is skipped, the packages that cannot be found here."""
    found = {what: [name for name in names.split() if not importable(name)] for what, names in NEEDS.items()}
    return {what: names for what, names in found.items() if names}


def importable(name: str) -> bool:
    """Whether a package can be found, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of `google.protobuf` there is not even `google`
        return False


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("fetch", "install", "missing"):
        one = commands.add_parser(name)
        if name != "missing":
            one.add_argument("folder", type=Path)
        if name == "install":
            one.add_argument("site", type=Path)
    options = parser.parse_args()
    if options.command == "fetch":
        fetch(options.folder)
    elif options.command == "install":
        install(options.folder, options.site)
    else:
        lacking = missing()
        for what, names in lacking.items():
            print(f"missing: {', '.join(names)}; skipped without: {what}")
        return 2 if "anything at all" in lacking else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
