#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`tenon tokenize` beside Hugging Face's `tokenizers` with the same number of threads, round after round.

    python3 encode.py --tenon build/cpu/tools/tenon --model DIR --data FILE.txt|FILE.jsonl [--megabytes 100] [--threads 2]

First the ids of every record (a line of a .txt, the "text" of a line of a .jsonl) are compared: nothing is timed before
they are equal. Then the file is repeated to the size wanted and both encode it. Tenon's time is that of the whole command,
reading, loading the tokenizer, and writing and syncing the token file included; the peer's is that of encode_batch() alone,
the records being in memory already.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH = 1 << 22  # bytes of text that the peer gets at a time: its result holds much more than ids


def records_of(data, jsonl):
    lines = data.decode().removesuffix("\n").split("\n")
    return [json.loads(line)["text"] for line in lines] if jsonl else [line.removesuffix("\r") for line in lines]


def batches(records):
    batch, size = [], 0
    for record in records:
        batch.append(record)
        size += len(record)
        if size > BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenon", required=True)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)  # before the library starts its threads
    import tokenizers

    jsonl = args.data.suffix == ".jsonl"
    data = args.data.read_bytes()
    peer = tokenizers.Tokenizer.from_file(str(args.model / "tokenizer.json"))
    tenon = [args.tenon, "tokenize", "--model", args.model, "--threads", str(args.threads)]

    lines = [] if jsonl else ["--lines"]
    said = subprocess.run([*tenon, "--data", args.data, "--ids", *lines], check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout
    ours = [json.loads(line) for line in said.splitlines()]
    records = records_of(data, jsonl)
    theirs = [e.ids for batch in batches(records) for e in peer.encode_batch(batch)]
    if ours != theirs:
        first = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
        sys.exit(f"the ids differ: {len(ours)} and {len(theirs)} records, the first that differs is number {first + 1}")
    print(f"{len(records)} records, {sum(map(len, ours))} ids: equal")

    times = max(1, round(args.megabytes * 1e6 / len(data)))
    megabytes = times * len(data) / 1e6
    text_megabytes = times * sum(len(r.encode()) for r in records) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        repeated = Path(folder) / f"repeated{args.data.suffix}"
        with repeated.open("wb") as file:
            for _ in range(times):
                file.write(data)
        mine, peers = [], []
        for _ in range(args.rounds):
            start = time.perf_counter()
            subprocess.run([*tenon, "--data", repeated, "--out", Path(folder) / "tokens"], check=True,
                           stderr=subprocess.DEVNULL)
            mine.append(time.perf_counter() - start)
            taken = 0
            for batch in batches(records):  # once: its speed does not change from one repetition to the next
                start = time.perf_counter()
                peer.encode_batch(batch)
                taken += time.perf_counter() - start
            peers.append(taken * times)
    rates = [megabytes / t for t in mine], [text_megabytes / t for t in peers]
    for name, rate in zip(("tenon tokenize", f"tokenizers {tokenizers.__version__}"), rates):
        print(f"{name:<20} {statistics.median(rate):7.1f} MB/s   ({', '.join(f'{r:.1f}' for r in rate)})")
    print(f"ratio                {statistics.median(a / b for a, b in zip(*rates)):7.1f}   "
          f"({megabytes:.0f} MB, {args.threads} threads)")


if __name__ == "__main__":
    main()
