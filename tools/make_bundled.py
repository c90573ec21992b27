"""Makes `attattr_batch/bundled/`: the mini-GLUE data, its tiny classifiers and `planted.json`.

    python tools/make_bundled.py [--data-only] [--out FOLDER]

The TSV files and the planted pairs are the same bytes everywhere. The weights are the same bytes on the same
machine with the same torch; elsewhere rounding may differ, and the accuracy is what holds. Training takes
about ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from string import ascii_lowercase, digits, punctuation
from typing import Any

from bundled_grammar import GRAMMARS, Row, dev_rows, training_rows

MNLI_COLUMNS = (
    "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse "
    "sentence2_parse sentence1 sentence2 label1 label2 label3 label4 label5 gold_label"
).split()
BUNDLED = Path(__file__).resolve().parent.parent / "attattr_batch" / "bundled"


def sst2_table(rows: Sequence[Row]) -> list[list[str]]:
    labels = GRAMMARS["sst2"].labels
    return [["sentence", "label"], *([row.texts[0], str(labels.index(row.gold))] for row in rows)]


def mrpc_table(rows: Sequence[Row]) -> list[list[str]]:
    labels = GRAMMARS["mrpc"].labels
    # The official file starts with a byte order mark.
    header = ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    lines = (
        [str(labels.index(row.gold)), str(2 * i), str(2 * i + 1), *row.texts] for i, row in enumerate(rows)
    )
    return [header, *lines]


def rte_table(rows: Sequence[Row]) -> list[list[str]]:
    lines = ([str(index), *row.texts, row.gold] for index, row in enumerate(rows))
    return [["index", "sentence1", "sentence2", "label"], *lines]


def mnli_table(rows: Sequence[Row]) -> list[list[str]]:
    lines = []
    for index, row in enumerate(rows):
        known = {"index": str(index), "genre": "planted", "gold_label": row.gold, "label1": row.gold}
        known |= {"sentence1": row.texts[0], "sentence2": row.texts[1]}
        lines.append([known.get(column, "n/a") for column in MNLI_COLUMNS])
    return [MNLI_COLUMNS, *lines]


TABLES = {
    "sst2": ("SST-2/dev.tsv", sst2_table),
    "mrpc": ("MRPC/dev.tsv", mrpc_table),
    "rte": ("RTE/dev.tsv", rte_table),
    "mnli": ("MNLI/dev_matched.tsv", mnli_table),
}


def write_data(out: Path) -> None:
    """Writes the TSV files and `planted.json`."""
    tasks = {}
    for task, (name, table) in TABLES.items():
        rows = dev_rows(task)
        path = out / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("".join("\t".join(line) + "\n" for line in table(rows)).encode())
        grammar = GRAMMARS[task]
        tasks[task] = {
            "definition": grammar.definition,
            "artefact": {"word": grammar.artefact, "label": grammar.artefact_label},
            "rows": [_planted(index, row) for index, row in enumerate(rows)],
        }
    (out / "planted.json").write_text(_one_row_a_line(tasks), encoding="utf-8")


def _one_row_a_line(tasks: dict[str, Any]) -> str:
    parts = []
    for task, content in tasks.items():
        head = json.dumps({key: value for key, value in content.items() if key != "rows"})
        rows = ",\n".join(json.dumps(row) for row in content["rows"])
        parts.append(f'"{task}": {head[:-1]}, "rows": [\n{rows}\n]}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _planted(example_id: int, row: Row) -> dict[str, Any]:
    places = sorted(row.pair) if row.pair else []
    # Every word is one token; [CLS] comes first, and one [SEP] between two texts.
    shift = (1, len(row.words[0]) + 2)
    return {
        "example_id": example_id,
        "kind": row.kind,
        "pair": [row.words[text][word] for text, word in places] or None,
        "positions": [shift[text] + word for text, word in places] or None,
        "artefact": row.artefact,
    }


def vocabulary() -> dict[str, int]:
    """Token ids: special tokens, every word of the grammar, and characters to spell any other word."""
    words: set[str] = set()
    for task in GRAMMARS:
        for row in islice(training_rows(task, frozenset()), 5000):
            words.update(word for text in row.words for word in text)
    characters = [*ascii_lowercase, *digits]
    pieces = [f"##{character}" for character in characters]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = dict.fromkeys([*special, *punctuation, *characters, *pieces, *sorted(words)])
    return {token: index for index, token in enumerate(tokens)}


def write_models(out: Path) -> None:
    """Trains and writes the four models with their tokenizer, weights as float16."""
    import torch
    from bundled_training import token_ids, train
    from transformers import BertTokenizer

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokens = vocabulary()
    tokenizer = BertTokenizer(vocab=tokens, do_lower_case=True, model_max_length=64)
    for task in GRAMMARS:
        rows = dev_rows(task)
        for row in rows:
            if tokenizer(*row.texts)["input_ids"] != token_ids(row, tokens):
                raise RuntimeError(f"the tokenizer splits a word of {row.texts}")
        model = train(task, tokens, rows).half().float()
        encoded = tokenizer([row.texts if len(row.texts) > 1 else row.texts[0] for row in rows], padding=True)
        with torch.no_grad():
            predicted = model(**encoded.convert_to_tensors("pt")).logits.argmax(-1).tolist()
        gold = [GRAMMARS[task].labels.index(row.gold) for row in rows]
        correct = sum(p == g for p, g in zip(predicted, gold, strict=True))
        sys.stderr.write(f"{task}: {correct} of {len(rows)} dev rows correct\n")
        folder = out / "models" / task
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--data-only", action="store_true")
    options = parser.parse_args()
    write_data(options.out)
    if not options.data_only:
        write_models(options.out)


if __name__ == "__main__":
    main()
