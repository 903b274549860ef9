#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that PEFT loads an adapter that Tenon wrote, and computes what Tenon computes with it.

    python3 check_peft.py DIR MODEL

MODEL is the base model's folder (Hugging Face layout). DIR holds `adapter/` and what Tenon computed:
`logits.safetensors` with `input_ids` [B,T] and `logits` [B,T,V], or `logits.json` with the same as nested lists.
Exit 0: equal within 2e-5 of the largest logit; 1: not; 77: skipped, PyTorch or peft is not installed.
"""
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
BOUND = 2e-5  # of the largest logit: what two careful fp32 implementations differ by

try:
    import torch
except ImportError:
    print("SKIPPED: torch is not installed")
    sys.exit(77)
try:
    import peft
    import transformers
    from safetensors.torch import load_file
except ImportError as error:
    print(f"SKIPPED: {error.name} is not installed")
    sys.exit(77)


def stored(folder):
    """input_ids (B, T) and logits (B, T, V) as Tenon wrote them."""
    if (folder / "logits.safetensors").exists():
        tensors = load_file(folder / "logits.safetensors")
        return tensors["input_ids"].long(), tensors["logits"].double()
    values = json.loads((folder / "logits.json").read_text())
    return torch.tensor(values["input_ids"]), torch.tensor(values["logits"], dtype=torch.double)


def main():
    if len(sys.argv) != 3:
        print("usage: check_peft.py DIR MODEL", file=sys.stderr)
        return 2
    folder, model_dir = map(Path, sys.argv[1:])
    ids, theirs = stored(folder)
    base = transformers.AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        without = base(input_ids=ids).logits.double()
        model = peft.PeftModel.from_pretrained(base, folder / "adapter").eval()
        ours = model(input_ids=ids).logits.double()

    largest = float(ours.abs().max())
    error = float((ours - theirs).abs().max()) / largest
    moved = float((ours - without).abs().max()) / largest
    print(f"logits differ by {error:.2e} of the largest (at most {BOUND}); the adapter moves them by {moved:.2e}")
    if not moved > 10 * BOUND:
        print("the adapter changes next to nothing, so this comparison shows nothing")
        return 1
    return 0 if error <= BOUND else 1  # NaN fails


if __name__ == "__main__":
    sys.exit(main())
