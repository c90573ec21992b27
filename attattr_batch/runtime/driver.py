"""The driver: the one writer. Hands out chunks, commits what comes back, retries, bisects, quarantines.

Whatever happens to workers, or to this process, an example's rows are in the store exactly once or not at
all: the ledger decides (see `store.ingest`), so a chunk may safely be computed again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from attattr_batch.data.records import Chunk
from attattr_batch.errors import TerminalError
from attattr_batch.runtime.executors import ChunkOutcome, Executor, Failed, Finished, Lost
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.ingest import ChunkFacts, commit_chunks
from attattr_batch.store.writing.passes import QuarantinedExample, quarantine_examples
from attattr_batch.store.writing.rows import BadFactsError

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""Attempts of a single example, alone, before it is quarantined."""

FAILED_ALIKE = 8
"""Examples that fail in the same way, with none committed, after which the shortest one decides."""

_WAIT_S = 1.0
_SHOWN_IDS = 8


@dataclass
class Progress:
    """How far a pass is; handed to the reporter after every change.

    Attributes:
        total: Examples of the pass.
        committed: Examples committed, by this call or earlier.
        quarantined: Examples that failed every attempt, in this call or earlier.
        newly_committed: Examples committed by this call.
        newly_quarantined: Examples that failed every attempt in this call.
        started: `time.monotonic()` at the start.
        title: What the pass is, for people: unique in its store.
    """

    total: int
    committed: int
    quarantined: int
    newly_committed: int = 0
    newly_quarantined: int = 0
    started: float = field(default_factory=time.monotonic)
    title: str = ""

    def quarantine(self, count: int = 1) -> None:
        """Counts examples that have failed every attempt."""
        self.quarantined += count
        self.newly_quarantined += count

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started


Reporter = Callable[[Progress], None]


class Driver:
    """Executes the pending chunks of one pass."""

    def __init__(self, store: Store, pass_id: int, executor: Executor, report: Reporter):
        self._store = store
        self._pass_id = pass_id
        self._executor = executor
        self._report = report
        self._queue: deque[Chunk] = deque()
        self._in_flight = 0
        self._shown: set[str] = set()
        self._last_kind, self._failed_alike = "", 0
        self._shortest: Chunk | None = None

    def execute(self, chunks: Sequence[Chunk], progress: Progress) -> Progress:
        """Works until every example of `chunks` is committed or quarantined.

        Raises:
            UserError: no worker can start, or the store cannot be written. What is committed stays.
            TerminalError: nothing is committed, now or earlier, and the first examples and the shortest fail
                alike; or what no example would escape, rows that do not fit their tables among it.
        """
        self._progress = progress
        self._queue.extend(chunks)
        self._report(progress)
        while self._queue or self._in_flight:
            self._hand_out()
            outcomes = self._executor.wait(_WAIT_S)
            self._in_flight -= len(outcomes)
            self._hand_out()  # workers go on while their results are committed
            self._commit([outcome for outcome in outcomes if isinstance(outcome, Finished)])
            for outcome in outcomes:
                self._mind(outcome)
            self._report(progress)
        return progress

    def _hand_out(self) -> None:
        while self._queue and self._executor.room():
            self._executor.submit(self._queue.popleft())
            self._in_flight += 1

    def _mind(self, outcome: ChunkOutcome) -> None:
        match outcome:
            case Failed(chunk=chunk):
                self._show_once(outcome)
                self._again(chunk, outcome.kind, outcome.message, outcome.detail)
            case Lost(chunk=chunk):
                self._show_once(outcome)
                self._after_loss(chunk, outcome.message)

    def _commit(self, finished: Sequence[Finished]) -> None:
        results = commit_chunks(self._store, [self._facts(one) for one in finished])
        for one, result in zip(finished, results, strict=True):
            if isinstance(result, BadFactsError):
                if not result.example_ids:  # wrong whatever the example: a fault of ours, not of the data
                    raise TerminalError(str(result)) from result
                self._again(one.chunk, type(result).__name__, str(result), "")
            else:
                # Another driver may have committed some of them; they are done all the same.
                self._progress.committed += len(result)
                self._progress.done += len(one.chunk.examples)

    def _facts(self, finished: Finished) -> ChunkFacts:
        chunk = finished.chunk
        return ChunkFacts(
            pass_id=self._pass_id,
            example_ids=chunk.example_ids,
            tables=finished.tables,
            chunk=f"{chunk.example_ids[0]}+{len(chunk.examples) - 1}",
            worker=finished.worker,
            seconds=finished.seconds,
        )

    def _show_once(self, outcome: Failed | Lost) -> None:
        """Logs what happened on a worker; the same again only in detail, for it may meet every chunk."""
        kind = outcome.kind if isinstance(outcome, Failed) else "WorkerLost"
        ids = outcome.chunk.example_ids
        shown = ", ".join(map(str, ids[:_SHOWN_IDS])) + (", ..." if len(ids) > _SHOWN_IDS else "")
        facts = {"kind": kind, "worker": outcome.worker, "example_ids": ids, "error": outcome.message}
        level = logging.DEBUG if kind in self._shown else logging.WARNING
        text = "%s on %s, examples %s: %s"
        log.log(level, text, kind, outcome.worker, shown, outcome.message, extra={"facts": facts})
        if isinstance(outcome, Failed):
            log.debug("%s", outcome.detail)
        self._shown.add(kind)

    def _after_loss(self, chunk: Chunk, message: str) -> None:
        """Tries a chunk whose worker was lost once more as it is: most often the machine was at fault.

        A chunk in one piece also keeps its numbers to the last bit, which depend on the batch's shape.
        """
        if len(chunk.examples) > 1 and chunk.attempt == 0:
            self._queue.appendleft(Chunk(chunk.examples, attempt=1))
        elif len(chunk.examples) > 1:
            # The halves have had their second attempt with the whole.
            halves = [Chunk(half.examples, min(1, len(half.examples) - 1)) for half in chunk.halves()]
            self._queue.extendleft(reversed(halves))
        else:
            self._again(chunk, "WorkerLost", message, "")

    def _again(self, chunk: Chunk, kind: str, message: str, detail: str) -> None:
        """Bisects a failed chunk; a failed single example gets another attempt, then quarantine."""
        if len(chunk.examples) > 1:
            self._queue.extendleft(reversed(chunk.halves()))
            return
        attempts = chunk.attempt + 1
        if attempts < ATTEMPTS:
            self._queue.appendleft(Chunk(chunk.examples, attempts))
            return
        failed = QuarantinedExample(
            example_id=chunk.example_ids[0], kind=kind, message=message, detail=detail, attempts=attempts
        )
        quarantine_examples(self._store, self._pass_id, [failed])
        self._progress.quarantine()
        self._consider_giving_up(chunk, kind, message)

    def _consider_giving_up(self, failed: Chunk, kind: str, message: str) -> None:
        """Spares the rest where nothing succeeds.

        Chunks come longest first, so the first failures alone may only say that long examples do not fit.
        """
        self._failed_alike = self._failed_alike + 1 if kind == self._last_kind else 1
        self._last_kind = kind
        hopeless = self._failed_alike >= FAILED_ALIKE and not self._progress.done
        if hopeless and failed == self._shortest:
            raise TerminalError(
                f"the first {self._failed_alike - 1} examples and the shortest left all failed alike, so the"
                f" rest would too: {kind}: {message}\n"
                "  next:    mend the cause, then give the same command with --retry-errors"
            )
        if failed == self._shortest:
            self._shortest = None
        elif hopeless and self._shortest is None and self._queue:
            *longer, example = self._queue.pop().examples
            if longer:
                self._queue.append(Chunk(tuple(longer)))
            self._shortest = Chunk((example,))
            self._queue.appendleft(self._shortest)
