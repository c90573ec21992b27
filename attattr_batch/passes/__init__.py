"""Passes: model work over a dataset's examples, planned into chunks and computed by workers."""

from attattr_batch.passes._work import ModelWork as ModelWork
from attattr_batch.passes._work import Plan as Plan
from attattr_batch.passes._work import Portable as Portable
from attattr_batch.passes._work import Work as Work
from attattr_batch.passes._work import Worker as Worker
