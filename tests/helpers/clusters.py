"""Ray clusters on this machine, in this process."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from attattr_batch.runtime.executors.ray_session import _read_token_again

MEMORY = 100 * 2**20
"""Bytes of a node's object store."""


@contextlib.contextmanager
def cluster_of(head_cpus: int, **system_config: int) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` of one head, whose workers find what this process can import."""
    # A cluster of ours has a token. Ray keeps the first mode and token that it sees in a process.
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    from ray.cluster_utils import Cluster

    _read_token_again()
    head = {
        "num_cpus": head_cpus,
        "num_gpus": 0,
        "include_dashboard": False,
        "object_store_memory": MEMORY,
        "_system_config": system_config,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            cluster.shutdown()
