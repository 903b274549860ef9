#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does a fine-tuning run follow PyTorch and PEFT? The same LoRA run, from the same adapter, over the same records in the
same order, scored on the answers alone; both sides read the files for themselves. Says how far the losses lie apart,
step by step, and fails past --bound.

    python3 follow.py --tenon build/cpu/tools/tenon --model DIR --data gsm8k-train.jsonl --columns question,answer
"""
import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import peft
import torch
import transformers


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa")


def write_start(args, folder):
    """An adapter that already does a little: B is not zero."""
    torch.manual_seed(args.seed)
    model = peft.get_peft_model(load(args.model), peft.LoraConfig(
        task_type="CAUSAL_LM", r=args.rank, lora_alpha=2 * args.rank, target_modules=args.targets.split(",")))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.02 * torch.randn(parameter.shape))
    model.save_pretrained(folder)


def records(args):
    """(ids, labels) of each record, cut at --seq-len; the model's chat template writes it, the answer is scored."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    question, answer = args.columns.split(",")
    for line in open(args.data, encoding="utf-8"):
        record = json.loads(line)
        asked = [{"role": "user", "content": record[question]}]
        whole = tokenizer.apply_chat_template(asked + [{"role": "assistant", "content": record[answer]}], tokenize=False)
        prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert whole.startswith(prompt)
        given = tokenizer(prompt, add_special_tokens=False).input_ids
        said = tokenizer(whole[len(prompt):], add_special_tokens=False).input_ids
        ids, labels = (given + said)[:args.seq_len], ([-100] * len(given) + said)[:args.seq_len]
        if any(label != -100 for label in labels):
            yield ids, labels


def peer_losses(args, start):
    model = peft.PeftModel.from_pretrained(load(args.model), start, is_trainable=True).eval()  # eval: dropout 0
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0)
    source, losses = records(args), []
    for step in range(args.steps):
        batch = [next(source) for _ in range(args.batch)]
        length = max(len(ids) for ids, _ in batch)
        ids = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in batch])
        labels = torch.tensor([labels + [-100] * (length - len(labels)) for _, labels in batch])
        mask = torch.tensor([[1] * len(ids) + [0] * (length - len(ids)) for ids, _ in batch])
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        print(f"peer step {step + 1}: {losses[-1]:.5f}", file=sys.stderr, flush=True)
    return losses


def tenon_losses(args, start, out):
    command = [args.tenon, "finetune", "--model", args.model, "--data", args.data, "--columns", args.columns,
               "--adapter", start, "--out", out, "--steps", args.steps, "--batch", args.batch, "--micro-batch", args.batch,
               "--seq-len", args.seq_len, "--packing", "none", "--shuffle", "off", "--lr", args.lr, "--schedule",
               "constant", "--warmup", 0, "--weight-decay", 0, "--clip", 1, "--precision", args.precision]
    subprocess.run([str(part) for part in command], check=True)
    with open(Path(out) / "metrics.csv", encoding="utf-8") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tenon", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--columns", default="question,answer")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", default="q_proj,v_proj")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--bound", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as scratch:
        start = Path(scratch) / "start"
        write_start(args, start)
        ours = tenon_losses(args, start, Path(scratch) / "run")
        theirs = peer_losses(args, start)
    if len(ours) != len(theirs):
        sys.exit(f"expected {len(theirs)} losses, got {len(ours)}")
    worst = max(abs(a - b) for a, b in zip(ours, theirs))
    for step, (a, b) in enumerate(zip(ours, theirs), 1):
        print(f"{step:4} {a:.5f} {b:.5f} {a - b:+.1e}")
    print(f"worst difference {worst:.1e} over {len(ours)} steps (bound {args.bound:.1e}); "
          f"loss {theirs[0]:.4f} -> {theirs[-1]:.4f}")
    return 0 if worst <= args.bound else 1


if __name__ == "__main__":
    sys.exit(main())
