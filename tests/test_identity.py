"""The identity of a run: golden hash per version, order of keys, refusal of NaN."""

import math

import pytest

from attattr_batch.identity import IDENTITY_VERSION, canonical_json, content_key, run_key

GOLDEN = {
    1: "08304bb679490c440bc8963fd6828a6b5d171086906d158f45ed04b2376f461e",
    2: "2003fac1e01837dcc945f6570c7d048185c7740672a9f8d903b75bfda6a66d0e",
    3: "7cbf7498823ea2fd1e6257213ac9e073ee1566cb35e3bf736a1b208e59ed84fb",
    4: "ce1ca35da0321a5df947ed03fbb96b933642c8fc69676f14f43d477a4e34dabd",
}


def test_golden_hash() -> None:
    identity = {"model": {"sha256": "00"}, "tolerance": 1e-3, "task": "sst2", "text": "é 🙂"}
    assert IDENTITY_VERSION == 4
    assert run_key(identity) == GOLDEN[IDENTITY_VERSION]


def test_the_order_of_keys_does_not_matter_and_values_do() -> None:
    assert run_key({"a": 1, "b": 2}) == run_key({"b": 2, "a": 1})
    assert run_key({"a": 1, "b": 2}) != run_key({"a": 1, "b": 3})
    assert run_key({"a": 1}) != content_key({"a": 1}), "the version is part of the key"


def test_numbers_are_written_as_given() -> None:
    assert canonical_json({"x": 0.001, "n": None, "ok": True}) == '{"n":null,"ok":true,"x":0.001}'


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_key({"tolerance": math.nan})
