#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tenon beside PyTorch, PEFT and bitsandbytes: both sides in turn, round after round, medians and ratios.

    python3 compare.py gemm|lora|attention|loss|rows --tenon build/cpu/tools/tenon [-- what `tenon bench GROUP` takes]
    python3 compare.py step --tenon build/cpu/tools/tenon --model DIR [--full | --lora R] [--scored 0.25]
    python3 compare.py finetune --tenon build/cpu/tools/tenon --model DIR --text FILE.txt

The first five time the lines of `tenon bench` in both programs (torch_lines.py); a ratio above 1 is in Tenon's favour.
`step` times whole training steps on random tokens in every --precision and says which is the peer's best. `finetune` runs
the same LoRA run on the same tokens through both programs and shows the losses side by side. --model of `step` may be a
config.json: both sides then draw random weights.
Run it on a machine that does nothing else; a slow page or a neighbour shows as a spread between the rounds.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
KERNELS = ("gemm", "lora", "attention", "loss", "rows")


def run(command, progress=False):
    """Runs it; returns its stdout and its peak resident memory as the kernel counted it."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([str(part) for part in command], stdout=out,
                                   stderr=None if progress else subprocess.PIPE)
        said = b"" if progress else process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{command[0]} failed (exit {process.returncode}): {said.decode()[-2000:]}")
        out.seek(0)
        return out.read().decode(), usage.ru_maxrss * 1024


def machine_line(document):
    machine = document["machine"]
    return (f"{machine['cpu']}, {machine['device']}, {machine['threads']} threads; "
            f"peak {machine['gflops']:.0f} GFLOP/s, copy {machine['copy_gbps']:.1f} GB/s; {document['version']}")


def summary(ratios):
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio, _ in ratios))
    smallest = min(ratios)
    return f"{mean:.2f}x in the geometric mean of {len(ratios)} lines, smallest {smallest[0]:.2f}x ({smallest[1]})"


def rounds_of_kernels(args, scratch):
    """Documents of Tenon and the peer's figures, a pair a round."""
    common = ["--threads", args.threads, "--seconds", args.seconds, "--runs", args.runs]
    more = ["--peers", "none"] if args.group == "gemm" else []
    for turn in range(args.rounds):
        text, _ = run([args.tenon, "bench", args.group, "--json", *common, *more, *args.more])
        lines = scratch / "lines.json"
        lines.write_text(text)
        theirs, _ = run([sys.executable, HERE / "torch_lines.py", lines, "--json", "--device", args.device, *common])
        print(f"round {turn + 1} of {args.rounds}", file=sys.stderr, flush=True)
        yield json.loads(text), json.loads(theirs)


def compare_kernels(args):
    with tempfile.TemporaryDirectory() as scratch:
        rounds = list(rounds_of_kernels(args, Path(scratch)))
    first, peers = rounds[0]
    print(f"{machine_line(first)}; torch {peers['versions']['torch']}; {args.rounds} rounds, medians")
    print(f"{'':61}{'Tenon, ms':>12}{'spread':>18}{'peer, ms':>12}{'ratio':>8}")
    ratios = []
    for i, line in enumerate(first["lines"]):
        if peers["figures"][i] is None:
            continue
        label = f"{line['name']} {line['size']} {line['dtype']}"
        ours = [document["lines"][i]["ms"] for document, _ in rounds]
        figures = [theirs["figures"][i] for _, theirs in rounds]
        mine, other = statistics.median(ours), statistics.median(figure["ms"] for figure in figures)
        ratios.append((other / mine, label))
        text = (f"{label:60} {mine:12.3f}{f'[{min(ours):.3f}..{max(ours):.3f}]':>18}{other:12.3f}{other / mine:8.2f}"
                f"  {figures[0]['name']}")
        if args.group == "lora":
            frozen = statistics.median(figure["ms_frozen"] for figure in figures)
            overhead = statistics.median(document["lines"][i]["overhead"] for document, _ in rounds)
            text += f"; the adapter adds {100 * overhead:.1f} %, PEFT's {100 * (other / frozen - 1):.1f} %"
        if figures[0].get("extra_bytes"):
            theirs = max(figure["extra_bytes"] for figure in figures)
            text += (f"; extra memory {line['extra_bytes'] / 2**20:.0f} MiB beside {theirs / 2**20:.0f} "
                     f"({line['extra_bytes'] / theirs:.3f})")
        print(text)
    if ratios:
        print("beside the peer: " + summary(ratios))


def step_words(args):
    """What both programs are told about a step."""
    words = ["--model", args.model, "--batch", args.batch, "--seq-len", args.seq_len, "--threads", args.threads,
             "--scored", args.scored]
    if args.full:
        words.append("--full")
    return words


def tenon_step(args, precision):
    words = [] if args.full else ["--lora", args.lora]
    words += ["--targets", *args.targets.split(",")] if args.targets else []
    text, _ = run([args.tenon, "bench", "step", *step_words(args), *words, "--dtype", precision, "--steps", args.steps,
                   "--json", *args.more])
    document = json.loads(text)
    line = document["lines"][0]
    return {"seconds": line["ms"] / 1e3, "memory": line["peak_bytes"], "document": document}


def peer_step(args, precision):
    text, memory = run([sys.executable, HERE / "torch_step.py", *step_words(args), "--micro-batch", args.batch, "--rank", args.lora,
                        "--targets", args.targets, "--dtype", precision, "--steps", args.steps + 1, "--json"])
    totals = json.loads(text.splitlines()[-1])
    return {"seconds": totals["seconds_per_step"], "memory": memory, "versions": totals["versions"]}


def compare_steps(args):
    results = {}
    for turn in range(args.rounds):
        for precision in args.precision:
            for side, step in (("tenon", tenon_step), ("peer", peer_step)):
                results.setdefault((side, precision), []).append(step(args, precision))
        print(f"round {turn + 1} of {args.rounds}", file=sys.stderr, flush=True)
    seconds = {key: statistics.median(each["seconds"] for each in runs) for key, runs in results.items()}
    memory = {key: max(each["memory"] for each in runs) for key, runs in results.items()}
    best = {side: min(args.precision, key=lambda precision: seconds[side, precision]) for side in ("tenon", "peer")}
    tokens = args.batch * args.seq_len
    versions = results["peer", args.precision[0]][0]["versions"]
    print(machine_line(results["tenon", args.precision[0]][0]["document"]) + "; "
          + ", ".join(f"{name} {version}" for name, version in versions.items()))
    what = "every weight" if args.full else f"LoRA rank {args.lora}"
    print(f"{args.model}: {what}, {args.batch} x {args.seq_len} tokens, {100 * args.scored:.0f} % scored, "
          f"{args.rounds} rounds of {args.steps} steps, medians")
    print(f"{'':8}{'Tenon, tokens/s':>17}{'MiB':>7}{'peer, tokens/s':>17}{'MiB':>7}{'speed':>8}{'memory':>8}")

    def row(label, ours, theirs):
        print(f"{label:8}{tokens / seconds[ours]:17.1f}{memory[ours] / 2**20:7.0f}{tokens / seconds[theirs]:17.1f}"
              f"{memory[theirs] / 2**20:7.0f}{seconds[theirs] / seconds[ours]:8.2f}{memory[ours] / memory[theirs]:8.2f}")

    for precision in args.precision:
        row(precision, ("tenon", precision), ("peer", precision))
    row("best", ("tenon", best["tenon"]), ("peer", best["peer"]))
    print(f"the peer's best precision is {best['peer']}, Tenon's {best['tenon']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    groups = parser.add_subparsers(dest="group", required=True)
    for group in (*KERNELS, "step", "finetune"):
        add = groups.add_parser(group).add_argument
        add("--tenon", required=True, type=Path, help="the program")
        add("--threads", type=int, default=2)
        add("--rounds", type=int, default=3)
        if group in KERNELS:
            add("--device", default="cpu", choices=["cpu", "cuda"])
            add("--seconds", type=float, default=0.3, help="least time that a line is run")
            add("--runs", type=int, default=7)
            continue
        add("--model", required=True, type=Path, help="Hugging Face folder; for step also a config.json")
        add("--seq-len", type=int, default=512)
        add("--targets", default="" if group == "step" else "c_attn", help="comma-separated module names")
        if group == "step":
            add("--batch", type=int, default=4)
            add("--steps", type=int, default=4)
            add("--lora", type=int, default=8, help="rank")
            add("--full", action="store_true")
            add("--scored", type=float, default=1)
            add("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
        else:
            add("--text", required=True, type=Path, help="plain text of at least one batch")
            add("--batch", type=int, default=8)
            add("--micro-batch", type=int, default=1)
            add("--steps", type=int, default=5)
            add("--precision", choices=["fp32", "bf16"], default="fp32")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:at])
    args.more = words[at + 1:]
    if args.group in KERNELS:
        compare_kernels(args)
    elif args.group == "step":
        compare_steps(args)
    else:
        from finetune import compare_runs
        compare_runs(args, run)


if __name__ == "__main__":
    main()
