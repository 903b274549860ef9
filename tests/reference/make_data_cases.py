#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes data/: the same few records in every kind of file, as Python's csv, json, gzip and pyarrow
write them, and in documents.json the texts that they become. Needs pyarrow (requirements.txt)."""
import csv
import gzip
import io
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).parent / "data"

RECORDS = [
    {"instruction": "Name the day after Monday.", "input": "", "output": "Tuesday"},
    {"instruction": "Quote \"this\", please,\nover two lines.", "input": "a,b", "output": "\"this\""},
    {"instruction": "Übersetze ins Englische.", "input": "die Brücke 🌉", "output": "the bridge\r\n"},
    {"instruction": "Say nothing. ", "input": " ", "output": ""},
    {"instruction": "Tabs\tand \\ backslashes", "input": "'", "output": "null"},
] + [{"instruction": f"Add 1 to {n}.", "input": "" if n % 2 else str(n), "output": str(n + 1)} for n in range(9)]

CHATS = [
    [("user", "Hello"), ("assistant", "Hi. What is it?"), ("user", "A lamp."), ("assistant", "So it is.")],
    [("system", "Be brief."), ("user", "Why \"brief\"?"), ("assistant", "Time. ⏱")],
    [("user", "1\n2"), ("assistant", "3")],
]
FROM = {"user": "human", "assistant": "gpt", "system": "system"}


def prompt(record):
    given = record["input"] != ""
    return (
        "Below is an instruction that describes a task"
        + (", paired with an input that provides further context" if given else "")
        + ". Write a response that appropriately completes the request.\n\n"
        + f"### Instruction:\n{record['instruction']}\n\n"
        + (f"### Input:\n{record['input']}\n\n" if given else "")
        + "### Response:\n"
    )


def write_parquet(name, table, **options):
    pq.write_table(table, OUT / name, **options)


def main():
    OUT.mkdir(exist_ok=True)
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in RECORDS)
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, ["instruction", "input", "output"])
    rows.writeheader()
    rows.writerows(RECORDS)
    contents = {"jsonl": lines, "json": json.dumps(RECORDS, indent=1), "csv": text.getvalue()}
    for kind, content in contents.items():
        (OUT / f"alpaca.{kind}").write_bytes(content.encode())
        (OUT / f"alpaca.{kind}.gz").write_bytes(gzip.compress(content.encode(), mtime=0))
        with pa.CompressedOutputStream(str(OUT / f"alpaca.{kind}.zst"), "zstd") as packed:
            packed.write(content.encode())

    table = pa.Table.from_pylist(RECORDS)
    for codec in ("none", "snappy", "gzip", "zstd"):
        write_parquet(f"alpaca-{codec}.parquet", table, compression=codec, row_group_size=6)
    large = table.set_column(0, "instruction", table["instruction"].cast(pa.large_string()))
    large = large.set_column(2, "output", table["output"].dictionary_encode())
    write_parquet("alpaca-types.parquet", large, data_page_version="2.0")
    nulls = [dict(r, input=r["input"] or None, unused=[{"n": 1.5, "b": True}]) for r in RECORDS]
    write_parquet("alpaca-nulls.parquet", pa.Table.from_pylist(nulls), write_page_checksum=True)

    chats = [{"messages": [{"role": r, "content": c} for r, c in chat]} for chat in CHATS]
    (OUT / "chat.jsonl").write_text("".join(json.dumps(c) + "\n" for c in chats))
    write_parquet("chat.parquet", pa.Table.from_pylist(chats))
    shared = [{"id": str(i), "conversations": [{"from": FROM[r], "value": c} for r, c in chat]} for i, chat in enumerate(CHATS)]
    (OUT / "sharegpt.json").write_text(json.dumps(shared))

    documents = [[prompt(r), r["output"]] for r in RECORDS]
    (OUT / "documents.json").write_text(json.dumps(documents, indent=1) + "\n")


if __name__ == "__main__":
    main()
