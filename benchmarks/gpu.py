"""Measures the engine on a GPU: rates, shapes, chunk sizes, and a whole run of MNLI's size.

    python benchmarks/gpu.py --out FOLDER              # on a machine with a GPU: five minutes at most
    python benchmarks/gpu.py --rehearse --out FOLDER   # tiny sizes on a CPU, to see that it works

The parts come in the order of their importance, each with a time limit; a result is written after every line
of its table, so that a run that is ended leaves what it has. benchmarks/gpu.sh runs this after the tests. To
have results shown in BENCHMARKS.md, put them into benchmarks/results and run benchmarks/document.py.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from document import add_out, out_folder, provenance, show, table, write
from gpu_parts import PARTS, REHEARSAL, Bench, Part, Size

COMMAND = "bash benchmarks/gpu.sh"


class TimeUp(Exception):
    """A part has had its time."""


def main() -> int:
    """Runs the parts; returns 1 if one of them failed, 2 if there is no GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated; default: all")
    parser.add_argument("--commit", default="", help="the commit that is measured, where git cannot say it")
    add_out(parser)
    options = parser.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        print("no CUDA device here; --rehearse runs tiny sizes on the CPU", file=sys.stderr)
        return 2
    size = REHEARSAL if options.rehearse else Size()
    device = torch.device("cpu" if options.rehearse else "cuda")
    bench = Bench(device, size, options.rehearse, time.monotonic() + size.seconds)
    folder, failed = out_folder(options.out, smoke=options.rehearse), []
    for name in options.part or PARTS:
        if not run_part(name, bench, folder, options.commit):
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run_part(name: str, bench: Bench, folder: Path, commit_id: str) -> bool:
    """Measures one part and writes its table after every line; returns whether nothing failed."""
    part, started = PARTS[name], time.monotonic()
    if lacking := part.lacks():
        print(f"## {part.title}: skipped, {', '.join(lacking)} missing\n")
        return True
    result = {
        "title": f"On a GPU: {part.title}",
        "command": COMMAND + (" --rehearse" if bench.rehearsal else ""),
        **provenance(card(bench.device), commit_id),
    }
    rows: list[Any] = []
    note, good = part.note, True
    try:
        with limited(min(part.limit_s if not bench.rehearsal else 600, bench.until - time.monotonic())):
            for row in part.lines(bench):
                rows.append(row)
                write(folder, f"gpu-{name}", {**result, "tables": [_table(part, rows, note)]})
    except TimeUp:
        note = f"{note} Ended by its time limit.".strip()
    except Exception:
        traceback.print_exc()
        note, good = f"{note} Ended by an error.".strip(), False
    result["tables"] = [_table(part, rows, note)]
    write(folder, f"gpu-{name}", result)
    show(result)
    print(f"{name}: {time.monotonic() - started:.0f} s\n", flush=True)
    return good


def _table(part: Part, rows: list[Any], note: str) -> dict[str, Any]:
    return table(part.title, part.columns, rows, note)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TimeUp in the block after that many seconds."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def card(device: torch.device) -> str:
    """The GPU's name and memory, and the CUDA of torch; for the CPU, that none was used."""
    if device.type == "cpu":
        return "no GPU used"
    found = torch.cuda.get_device_properties(device)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # with torch loaded, DuckDB's bindings would print a page of leak reports
