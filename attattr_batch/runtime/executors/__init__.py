"""Executors: where chunks are computed. Ray is imported only when its executor is asked for."""

from attattr_batch.runtime.executors.outcomes import ChunkOutcome as ChunkOutcome
from attattr_batch.runtime.executors.outcomes import Executor as Executor
from attattr_batch.runtime.executors.outcomes import Failed as Failed
from attattr_batch.runtime.executors.outcomes import Finished as Finished
from attattr_batch.runtime.executors.outcomes import Lost as Lost
