"""Executors: where chunks are computed. Ray is imported only when its executor is asked for."""

from attattr_batch.runtime.executors._base import Executor as Executor
from attattr_batch.runtime.executors._base import Failed as Failed
from attattr_batch.runtime.executors._base import Finished as Finished
from attattr_batch.runtime.executors._base import Lost as Lost
from attattr_batch.runtime.executors._base import Outcome as Outcome
