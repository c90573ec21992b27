"""The tables of the GPU benchmark: what each measures, what it needs, and how long it may take."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from arithmetic import Shape
from gpu_run import make_model, make_rows, time_run
from gpu_work import (
    BASE,
    LARGE,
    Measured,
    attribute,
    launches,
    matrix_rate,
    measure,
    random_chunks,
    random_encoder,
)
from wheels import importable

DTYPES = ("auto", "float16", "tf32", "bfloat16", "float32")
RATES = ("float32", "tf32", "float16", "bfloat16")
ENGINE = ("transformers", "pydantic", "jaxtyping")
STORE = (*ENGINE, "pyarrow", "sqlalchemy", "duckdb", "duckdb_sqlalchemy", "alembic", "datasets")

INTERRUPTED = 130
"""Exit code of a run that was ended by its time limit."""

Row = list[Any]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        seconds: All parts together, at most.
        rate_s: Seconds for each rate of matrix products.
        shapes: Sizes of the encoder, rows, and spread of its weights, by part.
        chunk: Tokens and rows of a chunk, at most.
        scanned: Values of tokens of a chunk, and of tokens replayed at once, that are compared.
        tokens: Tokens of the product whose rate is the measure.
        longest: Tokens of a row at most.
        run_rows: Rows of the whole run.
    """

    seconds: float = 260.0
    rate_s: float = 0.5
    shapes: tuple[tuple[str, Shape, int, float], ...] = (
        ("base", BASE, 1024, 0.033),
        ("large", LARGE, 128, 0.028),
    )
    chunk: tuple[int, int] = (16_384, 1024)
    scanned: tuple[int, ...] = (4_096, 8_192, 16_384, 32_768, 65_536, 131_072)
    tokens: int = 16_384
    longest: int = 128
    run_rows: int = 9_815

    def of(self, part: str) -> tuple[Shape, int, float]:
        """Sizes, rows and spread of a shape."""
        return next(rest for name, *rest in self.shapes if name == part)  # type: ignore[return-value]


_TINY = (("base", Shape(3, 32, 64), 24, 0.2), ("large", Shape(4, 32, 64), 8, 0.2))
REHEARSAL = Size(900.0, 0.01, _TINY, (256, 8), (256, 512), 64, 24, 150)


@dataclass(frozen=True)
class Bench:
    """Where and how much is measured; knows the rates that it has taken."""

    device: torch.device
    size: Size
    rehearsal: bool
    until: float

    def rate(self, dtype: str, sizes: tuple[int, int, int]) -> float:
        """Operations a second of matrix products."""
        return matrix_rate(dtype, sizes, self.device, self.size.rate_s)

    def batch_tokens(self, shape: Shape) -> int:
        """Tokens that a run would replay at once."""
        from attattr_batch.engine.devices import default_batch_tokens

        return default_batch_tokens(self.device.type, shape.width)

    def widest(self, shape: Shape) -> tuple[int, int, int]:
        """The encoder's widest product."""
        return self.size.tokens, shape.width, shape.inner

    def dtypes(self) -> list[str]:
        """What the engine offers, and this device can do."""
        from attattr_batch.choices import DType

        refused = ("tf32",) if self.device.type == "cpu" else ()
        return [name for name in DTYPES if name in get_args(DType) and name not in refused]


def rates(bench: Bench) -> Iterator[Row]:
    side = 64 if bench.rehearsal else 8192
    base, large = (bench.widest(bench.size.of(part)[0]) for part in ("base", "large"))
    for dtype in RATES:
        if bench.device.type == "cpu" and dtype == "tf32":
            continue
        found = (bench.rate(dtype, sizes) for sizes in ((side, side, side), base, large))
        yield [dtype, *(f"{one / 1e12:.3g}" for one in found)]


def shape(part: str, bench: Bench) -> Iterator[Row]:
    from attattr_batch.spec import MethodSettings, make_settings

    size, rows, spread = bench.size.of(part)
    encoder = random_encoder(size, bench.device, spread)
    chunks = random_chunks(rows, *bench.size.chunk, bench.size.longest)
    for dtype in bench.dtypes():
        method = make_settings(MethodSettings, {"target": "gold", "dtype": dtype})
        rate = bench.rate("float16" if dtype == "auto" else dtype, bench.widest(size))
        found = measure(encoder, size, chunks, method, bench.batch_tokens(size))
        middle = chunks[len(chunks) // 2]
        one = partial(attribute, encoder, middle, method, bench.batch_tokens(size))
        yield [dtype, *cells(found, rate), *launches(one, bench.device)]


def cells(found: Measured, rate: float) -> Row:
    """What all tables of the engine show of a measurement."""
    achieved = found.operations / found.seconds
    return [
        f"{found.rows / found.seconds:.1f}",
        f"{achieved / 1e12:.3g}",
        f"{achieved / rate:.0%}",
        f"{found.peak / 2**30:.2f}",
        f"{found.nodes:.2f}",
        f"{found.certified:.2%}",
    ]


def scan(bench: Bench) -> Iterator[Row]:
    from attattr_batch.spec import MethodSettings, make_settings

    size, rows, spread = bench.size.of("base")
    encoder, (tokens, most) = random_encoder(size, bench.device, spread), bench.size.chunk
    dtype = bench.dtypes()[0]
    method = make_settings(MethodSettings, {"target": "gold", "dtype": dtype})
    rate = bench.rate("float16" if dtype == "auto" else dtype, bench.widest(size))
    tried = [(2_560, 64, bench.batch_tokens(size))]
    tried += [(one, most, bench.batch_tokens(size)) for one in bench.size.scanned]
    tried += [(tokens, most, one) for one in bench.size.scanned]
    for chunk_tokens, chunk_rows, batch_tokens in dict.fromkeys(tried):
        chunks = random_chunks(rows, chunk_tokens, chunk_rows, bench.size.longest)
        row: Row = [dtype, chunk_tokens, chunk_rows, batch_tokens]
        try:
            row += cells(measure(encoder, size, chunks, method, batch_tokens), rate)
        except torch.OutOfMemoryError:
            row += ["out of memory", *[""] * 5]
        yield row


def checkpoints(bench: Bench) -> Iterator[Row]:
    from workloads import task_workload

    from attattr_batch.engine.families import encoder_for
    from attattr_batch.engine.models import load_model
    from attattr_batch.spec import MethodSettings, make_settings

    for task in ("mnli", "sst2", "rte"):
        work = task_workload(task, 2 if bench.rehearsal else 20, 4 if bench.rehearsal else 64)
        encoder, size = encoder_for(load_model(work.worker.work.source, bench.device)), work.shape
        for dtype in bench.dtypes()[:: len(bench.dtypes()) - 1 or 1]:  # the fastest and float32
            method = make_settings(MethodSettings, {"target": "gold", "dtype": dtype})
            rate = bench.rate("float16" if dtype == "auto" else dtype, bench.widest(size))
            found = measure(encoder, size, work.chunks, method, bench.batch_tokens(size))
            yield [work.name, dtype, *cells(found, rate)]


def whole_run(dtype: str, seconds: float, bench: Bench, *, halves: bool = False) -> Iterator[Row]:
    from attattr_batch.choices import DType

    size, _, spread = bench.size.of("base")
    chosen = dtype if dtype in get_args(DType) else "bfloat16"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model", size, spread)
        make_rows(folder / "data", bench.size.run_rows)
        left = min(seconds, bench.until - time.monotonic() - 10)
        found = time_run(folder, bench.device.type, chosen, left, halves=halves)
    yield [
        chosen,
        found["committed"],
        f"{found['seconds']:.1f}",
        "" if found["rate"] is None else f"{found['rate']:.1f}",
        "" if found["uncertified"] is None else found["uncertified"],
        found["code"],
    ]
    if found["code"] not in (0, INTERRUPTED):
        raise RuntimeError(f"the run ended with exit code {found['code']}")


COSTS = ("rows/s", "TFLOP/s needed", "share of the matrix rate", "peak GiB", "mean nodes", "certified")
COUNTS = ("kernels a chunk", "waits of the host a chunk")
RUN = ("dtype", "rows committed", "wall s", "rows/s between commits", "uncertified", "exit code")
NEEDED = (
    "Random weights, rows of MNLI's lengths (made up, 40 tokens on average), the gold class, without"
    " statistics for the store. Operations are counted in closed form over real tokens, for the accepted rule"
    " alone; the rate is that of the encoder's widest product in the same dtype (for `auto` float16)."
)


@dataclass(frozen=True)
class Part:
    """One table: its lines, how long they may take, and what they need.

    Attributes:
        title: Title of the table.
        columns: Its columns.
        lines: Measures, and yields a line at a time.
        limit_s: Seconds after which it is ended.
        needs: Packages without which it is skipped.
        note: Stands before the table.
        real: Whether it needs real checkpoints and data.
    """

    title: str
    columns: tuple[str, ...]
    lines: Callable[[Bench], Iterator[Row]]
    limit_s: float
    needs: tuple[str, ...] = ()
    note: str = ""
    real: bool = False

    def lacks(self) -> list[str]:
        """Packages that are missing, and real data where it needs them."""
        found = [name for name in self.needs if not importable(name)]
        return found + (["ATTATTR_REAL_DATA"] if self.real and "ATTATTR_REAL_DATA" not in os.environ else [])


PARTS = {
    "rates": Part("Matrix products, TFLOP/s", ("dtype", "8192 cube", "BERT-base", "BERT-large"), rates, 20),
    "run": Part("A whole run, the fastest dtype", RUN, partial(whole_run, "auto", 90.0), 120, STORE),
    "base": Part("BERT-base", ("dtype", *COSTS, *COUNTS), partial(shape, "base"), 70, ENGINE, NEEDED),
    "scan": Part(
        "Chunk size, BERT-base",
        ("dtype", "tokens of a chunk", "rows of a chunk", "tokens at once", *COSTS),
        scan,
        50,
        ENGINE,
        NEEDED,
    ),
    "run-two": Part(
        "A whole run by two Ray workers on one GPU",
        RUN,
        partial(whole_run, "auto", 80.0, halves=True),
        110,
        (*STORE, "ray"),
    ),
    "large": Part("BERT-large", ("dtype", *COSTS, *COUNTS), partial(shape, "large"), 60, ENGINE, NEEDED),
    "checkpoints": Part("Checkpoints", ("model", "dtype", *COSTS), checkpoints, 60, STORE, real=True),
    "run-float32": Part("A whole run, float32", RUN, partial(whole_run, "float32", 180.0), 210, STORE),
}
