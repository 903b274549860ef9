#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tenon beside PyTorch+PEFT: the same LoRA run on the same tokens, turn by turn, medians and losses of both.

    python3 compare.py --tenon build/cpu/tools/tenon --model DIR --text FILE.txt

The text is cut so that it makes exactly one batch: every step of both sides then sees the same tokens, in whatever
order they are dealt. The losses agree closely but not to the last digit: the adapters start from different random A, and
Tenon also scores the first token of each sequence but the first, which the peer's shift leaves out.
Run it on a machine that does nothing else; a slow page or a neighbour shows as a spread between the rounds.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from multiprocessing import Process
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--tenon", required=True, type=Path, help="the program")
parser.add_argument("--model", required=True, type=Path, help="Hugging Face folder with a tokenizer.json")
parser.add_argument("--text", required=True, type=Path, help="plain text of at least one batch")
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--micro-batch", type=int, default=1)
parser.add_argument("--seq-len", type=int, default=512)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
parser.add_argument("--targets", default="c_attn")
args = parser.parse_args()


def write_one_batch(file):
    """Writes the start of the text that, with an end-of-text token, is exactly one batch when tokenised anew."""
    from tokenizers import Tokenizer  # here, because a child's peak memory begins at its parent's size

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    wanted = args.batch * args.seq_len - 1
    encoding = tokenizer.encode(args.text.read_text(), add_special_tokens=False)
    if len(encoding.ids) < wanted:
        parser.error(f"{args.text} has {len(encoding.ids)} tokens, but a batch needs {wanted}")
    text = args.text.read_text()[: encoding.offsets[wanted - 1][1]]
    while len(tokenizer.encode(text, add_special_tokens=False).ids) > wanted:
        text = text[:-1]
    while len(tokenizer.encode(text, add_special_tokens=False).ids) < wanted:
        text += "\n."  # cutting a word may have merged its tokens
    if len(tokenizer.encode(text, add_special_tokens=False).ids) != wanted:
        parser.error(f"no start of {args.text} has exactly {wanted} tokens")
    file.write_text(text)


def run(command):
    """Runs it; returns its stdout and its peak resident memory as the kernel counted it."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([str(part) for part in command], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{command[0]} failed (exit {os.waitstatus_to_exitcode(status)})")
        out.seek(0)
        return out.read().decode(), usage.ru_maxrss * 1024


def common(data):
    return ["--model", args.model, "--data", data, "--batch", args.batch, "--micro-batch", args.micro_batch,
            "--seq-len", args.seq_len, "--steps", args.steps, "--threads", args.threads, "--rank", 8, "--alpha", 16,
            "--targets", args.targets, "--lr", 1e-4]


def tenon(data, folder):
    _, memory = run([args.tenon, "finetune", *common(data), "--method", "lora", "--precision", args.precision,
                     "--packing", "concat", "--schedule", "constant", "--warmup", 0, "--weight-decay", 0,
                     "--clip", 1.0, "--model-dropout", "off", "--log-every", 1, "--quiet", "--force", "--out", folder])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row.get("loss") is not None]
    seconds = [row["step_seconds"] for row in rows]
    return {"losses": [row["loss"] for row in rows], "seconds": statistics.median(seconds[1:] or seconds),
            "memory": memory}


def peer(data):
    out, memory = run([sys.executable, Path(__file__).parent / "lora_step.py", *common(data), "--dtype",
                       args.precision, "--json"])
    totals = json.loads(out.splitlines()[-1])
    return {"losses": totals["losses"], "seconds": totals["seconds_per_step"], "memory": memory,
            "versions": totals["versions"]}


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main():
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "batch.txt"
        writer = Process(target=write_one_batch, args=(data,))
        writer.start()
        writer.join()
        if writer.exitcode:
            sys.exit(writer.exitcode)
        ours, theirs = [], []
        for turn in range(args.rounds):
            ours.append(tenon(data, Path(scratch) / "run"))
            theirs.append(peer(data))
            print(f"round {turn + 1}: Tenon {ours[-1]['seconds']:.3f} s/step, "
                  f"PyTorch+PEFT {theirs[-1]['seconds']:.3f} s/step", file=sys.stderr, flush=True)

    tokens = args.batch * args.seq_len
    mine, other = ({"seconds": statistics.median(r["seconds"] for r in runs),
                    "memory": max(r["memory"] for r in runs)} for runs in (ours, theirs))
    versions = ", ".join(f"{name} {version}" for name, version in theirs[0]["versions"].items())
    print(f"{processor()}, {args.threads} threads; {versions}")
    print(f"LoRA rank 8 on {args.targets}, {args.precision}, batch {args.batch} x {args.seq_len}, "
          f"micro-batch {args.micro_batch}, {args.rounds} rounds of {args.steps} steps")
    print(f"{'':16}{'Tenon':>12}{'PyTorch+PEFT':>14}{'ratio':>8}")
    print(f"{'tokens/s':16}{tokens / mine['seconds']:12.0f}{tokens / other['seconds']:14.0f}"
          f"{other['seconds'] / mine['seconds']:8.2f}")
    print(f"{'s/step':16}{mine['seconds']:12.3f}{other['seconds']:14.3f}{mine['seconds'] / other['seconds']:8.2f}")
    print(f"{'peak RSS, MiB':16}{mine['memory'] / 2**20:12.0f}{other['memory'] / 2**20:14.0f}"
          f"{mine['memory'] / other['memory']:8.2f}")
    for step, (a, b) in enumerate(zip(ours[0]["losses"], theirs[0]["losses"])):
        print(f"{f'loss, step {step + 1}':16}{a:12.4f}{b:14.4f}{a - b:+8.4f}")


if __name__ == "__main__":
    main()
