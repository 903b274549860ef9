#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes data/: the same few records in every kind of file, as Python's csv, json, gzip and pyarrow
write them, and in documents.json the texts that they become. Needs pyarrow (requirements.txt)."""
import csv
import datetime
import decimal
import gzip
import io
import json
import pathlib

import numpy as np
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


# What Arrow fills with null in every message and tool, because another has it; no key is in the order of the alphabet.
CALLS = [
    {
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"x": {"type": "int"}}}},
            {"type": "function", "function": {"name": "g", "parameters": {"b": {"type": "str"}, "a": {"type": "str"}}}},
        ],
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
            {"role": "tool", "content": "1", "name": "f"},
            {"role": "assistant", "content": "b"},
        ],
    }
]


def values():
    """A value of each type, as the arguments of a call; and a column of a type that is not read."""
    day = datetime.datetime(2024, 2, 29, 23, 4, 5, 678901)
    old = datetime.datetime(1969, 12, 31, 23, 59, 59)
    decimal128, decimal256 = pa.decimal128(5, 2), pa.decimal256(40, 3)
    arrays = {
        "z_map": pa.array([[("y", 1), ("x", 2)]], pa.map_(pa.string(), pa.int64())),
        "numbered": pa.array([[(7, "a")]], pa.map_(pa.int32(), pa.string())),
        "price": pa.array([decimal.Decimal("-1.50")], decimal128),
        "large": pa.array([decimal.Decimal("12345678901234567890123456789.125")], decimal256),
        "day": pa.array([day.date()], pa.date32()),
        "day64": pa.array([old.date()], pa.date64()),
        "second": pa.array([day.replace(microsecond=0)], pa.timestamp("s")),
        "milli": pa.array([day.replace(microsecond=500000)], pa.timestamp("ms")),
        "micro": pa.array([day], pa.timestamp("us", tz="Europe/Berlin")),
        "nano": pa.array([1], pa.timestamp("ns")),
        "before": pa.array([old], pa.timestamp("us")),
        "time32": pa.array([datetime.time(3, 4, 5)], pa.time32("ms")),
        "time64": pa.array([datetime.time(3, 4, 5, 6)], pa.time64("us")),
        "half": pa.array([np.float16(1.5)], pa.float16()),
        "large_list": pa.array([["a", "b"]], pa.large_list(pa.string())),
        "fixed_list": pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
        "view": pa.array([["a", "b"]], pa.list_view(pa.string())),
        "large_view": pa.array([[1]], pa.large_list_view(pa.int64())),
        "coded": pa.array(["c"]).dictionary_encode(),
        "bytes": pa.array([b"abc"], pa.binary(3)),
        "wide": pa.array([2**63 - 1], pa.uint64()),
        "yes": pa.array([True]),
        "nothing": pa.array([None], pa.null()),
        "missing": pa.array([None], pa.string()),
        "holes": pa.array([[1, None]], pa.list_(pa.int64())),
    }
    arguments = pa.StructArray.from_arrays(list(arrays.values()), list(arrays))
    call = pa.StructArray.from_arrays([pa.array(["f"]), arguments], ["name", "arguments"])

    def listed(array):
        return pa.ListArray.from_arrays(pa.array([0, len(array)], pa.int32()), array)

    message = pa.StructArray.from_arrays(
        [pa.array(["assistant"]), pa.array(["a"]), listed(call)], ["role", "content", "tool_calls"]
    )
    took = pa.array([datetime.timedelta(seconds=3)], pa.duration("s"))
    return pa.table({"messages": listed(message), "took": took})


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
    write_parquet("calls.parquet", pa.Table.from_pylist(CALLS))
    (OUT / "calls.jsonl").write_text("".join(json.dumps(c) + "\n" for c in CALLS))
    write_parquet("values.parquet", values())
    shared = [{"id": str(i), "conversations": [{"from": FROM[r], "value": c} for r, c in chat]} for i, chat in enumerate(CHATS)]
    (OUT / "sharegpt.json").write_text(json.dumps(shared))

    documents = [[prompt(r), r["output"]] for r in RECORDS]
    (OUT / "documents.json").write_text(json.dumps(documents, indent=1) + "\n")


if __name__ == "__main__":
    main()
