"""Tables as a folder that Hugging Face's `datasets.load_from_disk` opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from datasets import Features

_LABEL_COLUMNS = ("gold", "predicted", "label")


def write_dataset_dict(tables: Mapping[str, Path], labels: Sequence[str], folder: Path) -> None:
    """Writes tables as a `DatasetDict`, one split each; rows are never all in memory.

    Args:
        tables: Parquet file by name of the split; an Arrow file is written beside each.
        labels: Label names by id: integer columns that hold labels become `ClassLabel`.
        folder: Where to; exists.

    Raises:
        OSError: it cannot be written.
    """
    # Imported here: it takes a second or two, which no other export has to wait for.
    from datasets import Dataset, DatasetDict, DatasetInfo

    from attattr_batch.data.user_files import no_progress_bars

    with no_progress_bars():
        splits = {}
        for name, path in tables.items():
            features = _features(pq.read_schema(path), labels)
            rows = path.with_suffix(".arrow")
            _copy_as_arrow(path, rows, features.arrow_schema)
            splits[name] = Dataset.from_file(str(rows), info=DatasetInfo(features=features))
        # A table without rows would be saved without a file, and could not be loaded.
        shards = {name: None if len(rows) else 1 for name, rows in splits.items()}
        DatasetDict(splits).save_to_disk(folder, num_shards=shards)


def _features(schema: pa.Schema, labels: Sequence[str]) -> Features:
    from datasets import ClassLabel, Features

    features = Features.from_arrow_schema(schema)
    for column in _LABEL_COLUMNS:
        if column in schema.names and pa.types.is_integer(schema.field(column).type):
            features[column] = ClassLabel(names=list(labels))
    return features


def _copy_as_arrow(parquet: Path, arrow: Path, schema: pa.Schema) -> None:
    with pq.ParquetFile(parquet) as source, pa.OSFile(str(arrow), "wb") as sink:
        with pa.ipc.new_stream(sink, schema) as writer:
            for batch in source.iter_batches():
                writer.write_table(pa.table(batch.columns, names=batch.schema.names).cast(schema))
