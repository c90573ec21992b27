"""Work on a GPU with an example that makes a kernel assert: its process can no longer use the GPU then.

python tests/helpers/asserting.py FOLDER     # such a run in this process, in a new store in the folder
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # as pytest sets it for the tests
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import pyarrow as pa
import torch

from attattr_batch.data.records import Chunk
from attattr_batch.errors import UserError
from attattr_batch.passes import Work
from attattr_batch.runtime.driver import Driver, Progress
from attattr_batch.runtime.executors.local import LocalExecutor
from helpers.fabricate import facts, new_store, register
from helpers.toy_work import chunks

N, CHUNK, POISON = 8, 1, 5
"""Examples, examples in a chunk, and the one that asserts."""


@dataclass(frozen=True)
class AssertingWork(Work):
    """Made-up facts, after some real work on the device.

    Attributes:
        device: `cuda`, or in a rehearsal `cpu`, where the process ends instead.
        asserting: Examples that make a kernel assert.
        seconds: Time a chunk takes.
    """

    device: str
    asserting: frozenset[int] = frozenset()
    seconds: float = 0.0

    def start(self) -> AssertingWork:
        return self

    def compute(self, chunk: Chunk) -> Mapping[str, pa.Table]:
        time.sleep(self.seconds)
        known = torch.arange(4, device=self.device)
        if self.asserting & set(chunk.example_ids):
            if self.device == "cpu":
                os._exit(9)
            known[torch.tensor([len(known)], device=self.device)].sum().item()
        assert known.sum().item() == 6
        return facts(chunk.example_ids)


def main(folder: Path) -> int:
    store = new_store(folder)
    _, pass_id = register(store, N)
    try:
        with closing(LocalExecutor(AssertingWork("cuda", frozenset({POISON})))) as executor:
            driver = Driver(store, pass_id, executor, lambda progress: None)
            driver.execute(chunks(N, CHUNK), Progress(N, 0, 0))
    except UserError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)  # as the command line does; what CUDA would say at the end of the process is not the point
