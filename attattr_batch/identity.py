"""What makes two runs the same run: a versioned hash over everything that changes numbers.

Workers, batch sizes and devices are left out: they change speed, not results (beyond rounding).
`tests/test_identity.py` holds a golden hash per version, so that an accidental change is seen.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

IDENTITY_VERSION = 6
"""Raise it whenever the meaning of stored numbers changes for unchanged settings."""


def canonical_json(value: Any) -> str:
    """Serialises to JSON with sorted keys and no white space; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def content_key(value: Any) -> str:
    """SHA-256 (hex, 64 characters) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def whole_identity(identity: dict[str, Any]) -> dict[str, Any]:
    """Identity of the run that a part (`--part`) is a part of: all but the key `part`.

    The key `part` of a part's identity holds which part it is (`part`, such as `1/3`), how many examples the
    whole run has (`n_examples`), and the key of the part's own tokens (`tokens`).
    """
    return {key: value for key, value in identity.items() if key != "part"}


def run_key(identity: dict[str, Any]) -> str:
    """Key of a run: the hash of its identity together with the identity version."""
    return content_key({"identity_version": IDENTITY_VERSION, **identity})
