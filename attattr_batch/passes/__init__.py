"""Passes: model work over a dataset's examples, planned into chunks and computed by workers."""

from attattr_batch.passes._protocols import Plan as Plan
from attattr_batch.passes._protocols import Portable as Portable
from attattr_batch.passes._protocols import Work as Work
from attattr_batch.passes._protocols import Worker as Worker
