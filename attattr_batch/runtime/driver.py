"""The driver, the only writer: hands out chunks, commits what comes back, retries, halves and quarantines.

Whatever happens to workers or to this process, an example's rows are in the store exactly once or not at all.
The ledger decides that (see `store.writing.ingest`), so a chunk may safely be computed again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from attattr_batch.data.records import Chunk
from attattr_batch.errors import BadFactsError, TerminalError, shown_ids
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, Executor, Failed, Finished, Lost
from attattr_batch.runtime.staging import ShardError, Stage
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.ingest import ChunkFacts, commit_chunks
from attattr_batch.store.writing.passes import QuarantinedExample, quarantine_examples

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""Attempts of a single example before it is quarantined."""

FAILED_ALIKE = 8
"""If so many examples fail in the same way and none is committed, the shortest one decides."""

_WAIT_S = 1.0


@dataclass
class Progress:
    """How far a pass is; given to the reporter after every change.

    Attributes:
        total: Examples of the pass.
        committed: Examples committed, by this call or earlier.
        quarantined: Examples that failed every attempt, in this call or earlier.
        newly_committed: Examples committed by this call.
        newly_quarantined: Examples that failed every attempt in this call.
        started: `time.monotonic()` at the start.
        title: What the pass is, for people; unique in its store.
    """

    total: int
    committed: int
    quarantined: int
    newly_committed: int = 0
    newly_quarantined: int = 0
    started: float = field(default_factory=time.monotonic)
    title: str = ""

    def commit(self, count: int, newly: int) -> None:
        """Counts examples that are now committed, `newly` of them by this call."""
        self.committed += count
        self.newly_committed += newly

    def quarantine(self, count: int = 1) -> None:
        """Counts examples that have failed every attempt."""
        self.quarantined += count
        self.newly_quarantined += count

    @property
    def settled(self) -> int:
        """Examples that are committed or quarantined."""
        return self.committed + self.quarantined

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Examples committed per second by this call."""
        return self.newly_committed / self.seconds if self.newly_committed else 0.0


Reporter = Callable[[Progress], None]


class Driver:
    """Computes the pending chunks of one pass.

    Args:
        store: Where results go.
        pass_id: The pass.
        executor: Where chunks are computed.
        report: Told after every commit how far the pass is.
        stage: Where workers leave results that they do not return.
    """

    def __init__(
        self, store: Store, pass_id: int, executor: Executor, report: Reporter, stage: Stage | None = None
    ):
        self._store = store
        self._pass_id = pass_id
        self._executor = executor
        self._report = report
        self._stage = stage
        self._queue: deque[Chunk] = deque()
        self._in_flight = 0
        self._shown: set[str] = set()
        self._last_error, self._failed_alike = "", 0
        self._shortest: Chunk | None = None

    def execute(self, chunks: Sequence[Chunk], progress: Progress) -> Progress:
        """Works until every example of `chunks` is committed or quarantined.

        Raises:
            UserError: no worker can start, or the store cannot be written. What is committed stays.
            TerminalError: every example would fail. Either nothing is committed, now or earlier, and the
                first examples and the shortest failed alike, or a worker's rows do not fit their tables.
        """
        self._progress = progress
        self._queue.extend(chunks)
        self._report(progress)
        while self._queue or self._in_flight:
            self._hand_out()
            outcomes = self._executor.wait(_WAIT_S)
            self._in_flight -= len(outcomes)
            self._hand_out()  # workers go on while their results are committed
            outcomes = [self._fetched(outcome) for outcome in outcomes]
            self._commit([outcome for outcome in outcomes if isinstance(outcome, Finished)])
            for outcome in outcomes:
                if not isinstance(outcome, Finished):
                    self._show(outcome)
                    self._retry(outcome)
            self._report(progress)
        return progress

    def _hand_out(self) -> None:
        while self._queue and self._executor.room():
            self._executor.submit(self._queue.popleft())
            self._in_flight += 1

    def _fetched(self, outcome: ChunkOutcome) -> ChunkOutcome:
        """Reads the rows of a chunk that its worker has staged; a chunk that cannot be read is lost."""
        if self._stage is None or not isinstance(outcome, Finished) or outcome.staged is None:
            return outcome
        try:
            _, tables = self._stage.get(outcome.staged)
        except ShardError as error:
            return Lost(outcome.chunk, str(error), outcome.worker)
        return replace(outcome, tables=tables)

    def _commit(self, finished: Sequence[Finished]) -> None:
        facts = [ChunkFacts(one.chunk.example_ids, one.tables, one.worker, one.seconds) for one in finished]
        results = commit_chunks(self._store, self._pass_id, facts)
        for one, result in zip(finished, results, strict=True):
            if not isinstance(result, BadFactsError):
                # Another driver may have committed some of the examples; they are done all the same.
                self._progress.commit(len(one.chunk.examples), newly=len(result))
            elif result.example_ids:
                self._retry(Failed(one.chunk, str(result), one.worker, type(result).__name__))
            else:  # wrong whatever the example is: a fault of the program, not of the data
                raise TerminalError(str(result)) from result
            if self._stage is not None and one.staged is not None:
                self._stage.delete(one.staged)

    def _show(self, outcome: Failed) -> None:
        """Logs what happened on a worker; the same error again only in detail, as every chunk may meet it."""
        facts = {"error": outcome.error, "worker": outcome.worker, "example_ids": outcome.chunk.example_ids}
        where = f"{outcome.error} on {outcome.worker}, examples {shown_ids(outcome.chunk.example_ids)}"
        level = logging.DEBUG if outcome.error in self._shown else logging.WARNING
        log.log(level, "%s: %s", where, outcome.message, extra={"facts": facts})
        if outcome.detail:
            log.debug("%s", outcome.detail)
        self._shown.add(outcome.error)

    def _retry(self, outcome: Failed) -> None:
        """Halves a failed chunk; a single example gets a second attempt, then quarantine.

        A chunk whose worker was lost is tried again whole first: most often the machine was at fault. In one
        piece the chunk also keeps its numbers to the last bit, which depend on the shape of the batch.
        """
        chunk, lost, several = outcome.chunk, isinstance(outcome, Lost), len(outcome.chunk.examples) > 1
        if (lost or not several) and chunk.attempt + 1 < ATTEMPTS:
            self._queue.appendleft(Chunk(chunk.examples, chunk.attempt + 1))
        elif several:
            # The halves of a lost chunk have had their second attempt with the whole; single examples get
            # two of their own.
            halves = [Chunk(half.examples, int(lost and len(half.examples) > 1)) for half in chunk.halves()]
            self._queue.extendleft(reversed(halves))
        else:
            self._quarantine(outcome)
            self._consider_giving_up(outcome)

    def _quarantine(self, outcome: Failed) -> None:
        failed = QuarantinedExample(
            example_id=outcome.chunk.example_ids[0],
            error=outcome.error,
            message=outcome.message,
            detail=outcome.detail,
            attempts=outcome.chunk.attempt + 1,
        )
        quarantine_examples(self._store, self._pass_id, [failed])
        self._progress.quarantine()

    def _consider_giving_up(self, outcome: Failed) -> None:
        """Spares the rest if nothing succeeds.

        The longest chunks come first, so the first failures alone may only mean that long examples do not
        fit. Therefore the shortest example is tried before the pass ends.
        """
        self._failed_alike = self._failed_alike + 1 if outcome.error == self._last_error else 1
        self._last_error = outcome.error
        hopeless = self._failed_alike >= FAILED_ALIKE and not self._progress.committed
        if hopeless and outcome.chunk == self._shortest:
            raise TerminalError(
                f"the first {self._failed_alike - 1} examples and the shortest left all failed alike, so the"
                f" rest would too: {outcome.error}: {outcome.message}\n"
                "  next:    mend the cause, then give the same command with --retry-errors"
            )
        if outcome.chunk == self._shortest:
            self._shortest = None
        elif hopeless and self._shortest is None and self._queue:
            *longer, example = self._queue.pop().examples
            if longer:
                self._queue.append(Chunk(tuple(longer)))
            self._shortest = Chunk((example,))
            self._queue.appendleft(self._shortest)
