# SPDX-License-Identifier: Apache-2.0
"""`compare.py finetune`: the same LoRA run on the same tokens through `tenon finetune` and through torch_step.py.

The text is cut so that it makes exactly one batch: every step of both sides then sees the same tokens, in whatever
order they are dealt. The losses agree closely but not to the last digit: the adapters start from different random A, and
Tenon also scores the first token of each sequence but the first, which the peer's shift leaves out.
"""
import json
import platform
import statistics
import sys
import tempfile
from multiprocessing import Process
from pathlib import Path


def write_one_batch(args, file):
    """Writes the start of the text that, with an end-of-text token, is exactly one batch when tokenised anew."""
    from tokenizers import Tokenizer  # here, because a child's peak memory begins at its parent's size

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    wanted = args.batch * args.seq_len - 1
    encoding = tokenizer.encode(args.text.read_text(), add_special_tokens=False)
    if len(encoding.ids) < wanted:
        sys.exit(f"{args.text} has {len(encoding.ids)} tokens, but a batch needs {wanted}")
    text = args.text.read_text()[: encoding.offsets[wanted - 1][1]]
    while len(tokenizer.encode(text, add_special_tokens=False).ids) > wanted:
        text = text[:-1]
    while len(tokenizer.encode(text, add_special_tokens=False).ids) < wanted:
        text += "\n."  # cutting a word may have merged its tokens
    if len(tokenizer.encode(text, add_special_tokens=False).ids) != wanted:
        sys.exit(f"no start of {args.text} has exactly {wanted} tokens")
    file.write_text(text)


def common(args, data):
    return ["--model", args.model, "--data", data, "--batch", args.batch, "--micro-batch", args.micro_batch,
            "--seq-len", args.seq_len, "--steps", args.steps, "--threads", args.threads, "--rank", 8, "--alpha", 16,
            "--targets", args.targets, "--lr", 1e-4]


def tenon(args, run, data, folder):
    _, memory = run([args.tenon, "finetune", *common(args, data), "--method", "lora", "--precision", args.precision,
                     "--packing", "concat", "--schedule", "constant", "--warmup", 0, "--weight-decay", 0,
                     "--clip", 1.0, "--model-dropout", "off", "--log-every", 1, "--quiet", "--force", "--out", folder])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row.get("loss") is not None]
    seconds = [row["step_seconds"] for row in rows]
    return {"losses": [row["loss"] for row in rows], "seconds": statistics.median(seconds[1:] or seconds),
            "memory": memory}


def peer(args, run, data):
    out, memory = run([sys.executable, Path(__file__).parent / "torch_step.py", *common(args, data), "--dtype",
                       args.precision, "--json"])
    totals = json.loads(out.splitlines()[-1])
    return {"losses": totals["losses"], "seconds": totals["seconds_per_step"], "memory": memory,
            "versions": totals["versions"]}


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def compare_runs(args, run):
    """Prints speed, memory and losses of both; `run` is compare.py's."""
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "batch.txt"
        writer = Process(target=write_one_batch, args=(args, data))
        writer.start()
        writer.join()
        if writer.exitcode:
            sys.exit(writer.exitcode)
        ours, theirs = [], []
        for turn in range(args.rounds):
            ours.append(tenon(args, run, data, Path(scratch) / "run"))
            theirs.append(peer(args, run, data))
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
