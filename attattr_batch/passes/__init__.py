"""Passes: model work over a dataset's examples, planned into chunks and computed by workers."""

from attattr_batch.passes.work import Work as Work
from attattr_batch.passes.work import Worker as Worker
