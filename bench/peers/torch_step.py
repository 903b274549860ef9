#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning steps with PyTorch and PEFT, the way their users write them: the peer of `tenon finetune` and of
`tenon bench step`.

Reads the model folder that Tenon reads, or a config.json for random weights. Data is text (tokenised by the folder's
tokenizer.json), or ids: a safetensors file with `input_ids` [N,T] or `input_ids.0`..., or lines of JSON arrays as
`tenon tokenize --ids` prints; without --data, random tokens. Documents are joined with the end-of-text token and cut
into sequences; a step takes the next --batch of them, round and round. Prints the loss and the time of each step, then
one line of totals, or with --json one JSON object.
"""
import argparse
import json
import os
import resource
import statistics
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True, type=Path)
parser.add_argument("--data", type=Path, help=".txt, .jsonl of id arrays, or .safetensors; default: random tokens")
parser.add_argument("--batch", type=int, default=8, help="sequences an optimizer step")
parser.add_argument("--micro-batch", type=int, default=1, help="sequences a forward")
parser.add_argument("--scored", type=float, default=1, help="share of each sequence, at its end, that the loss counts")
parser.add_argument("--full", action="store_true", help="train every weight")
parser.add_argument("--seq-len", type=int, default=512)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="of weights and activations")
parser.add_argument("--rank", type=int, default=8)
parser.add_argument("--alpha", type=float, default=16)
parser.add_argument("--targets", default="", help="comma-separated module names (default: PEFT's for the model)")
parser.add_argument("--lr", type=float, default=1e-4)
parser.add_argument("--clip", type=float, default=1.0)
parser.add_argument("--json", action="store_true")
args = parser.parse_args()
if args.batch % args.micro_batch:
    parser.error("--batch must be a multiple of --micro-batch")
os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before torch is loaded
os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer

torch.set_num_threads(args.threads)
torch.manual_seed(0)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def sequences(end_of_text):
    """All whole sequences of the data: (N, T)."""
    if args.data is None:
        return torch.randint(0, base.config.vocab_size, (args.batch, args.seq_len))
    if args.data.suffix == ".safetensors":
        tensors = load_file(args.data)
        rows = [tensors[name] for name in sorted(tensors) if name.startswith("input_ids")]
        return torch.cat(rows).long()[:, : args.seq_len]
    if args.data.suffix == ".jsonl":
        documents = [json.loads(line) for line in args.data.read_text().splitlines()]
    else:
        tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
        documents = [tokenizer.encode(args.data.read_text(), add_special_tokens=False).ids]
    stream = [token for document in documents for token in (*document, end_of_text)]
    count = len(stream) // args.seq_len
    if count < args.batch:
        parser.error(f"{args.data} gives {count} sequences of {args.seq_len} tokens, fewer than a batch")
    return torch.tensor(stream[: count * args.seq_len]).view(count, args.seq_len)


dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
if args.model.is_file():
    config = transformers.AutoConfig.from_pretrained(args.model)
    base = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
else:
    base = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
data = sequences(base.config.eos_token_id)
labels = data.clone()
labels[:, : data.shape[1] - round(args.scored * data.shape[1])] = -100
model = base
if not args.full:
    model = peft.get_peft_model(base, peft.LoraConfig(
        task_type="CAUSAL_LM", r=args.rank, lora_alpha=args.alpha, lora_dropout=0.0,
        fan_in_fan_out=base.config.model_type == "gpt2", target_modules=args.targets.split(",") if args.targets else None))
model.train()
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.0)

losses, seconds = [], []
for step in range(args.steps):
    index = torch.arange(step * args.batch, (step + 1) * args.batch) % len(data)
    started = time.perf_counter()
    total = 0.0
    for micro in index.split(args.micro_batch):
        loss = model(input_ids=data[micro], labels=labels[micro]).loss * (len(micro) / args.batch)
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(trained, args.clip)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(total)
    seconds.append(time.perf_counter() - started)
    if not args.json:
        print(f"step {step + 1}  loss {total:.5f}  {seconds[-1]:.3f} s", flush=True)

# The first step also allocates and warms up; it is left out where there are others.
median = statistics.median(seconds[1:] or seconds)
totals = {
    "losses": losses, "seconds_per_step": median, "tokens_per_second": args.batch * data.shape[1] / median,
    "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
}
if args.json:
    print(json.dumps(totals))
else:
    print(f"median {median:.3f} s/step, {totals['tokens_per_second']:.0f} tokens/s, "
          f"peak RSS {totals['peak_rss_bytes'] / 2**20:.0f} MiB, {args.threads} threads, {args.dtype}")
