#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes scores/windows.json: the loss of cases/gpt2-small on a text of random tokens by overlapping windows, as the
Hugging Face guide "Perplexity of fixed-length models" computes it.

    python3 make_window_cases.py
"""
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

HERE = Path(__file__).resolve().parent


def strided_loss(model, ids, length, stride):
    total, scored, previous = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + length, len(ids))
        window = torch.tensor([ids[begin:end]])
        labels = window.clone()
        labels[:, :-(end - previous)] = -100
        count = int((labels[:, 1:] != -100).sum())
        if count:
            with torch.no_grad():
                total += model(window, labels=labels).loss.double().item() * count
        scored += count
        previous = end
        if end == len(ids):
            break
    return {"length": length, "stride": stride, "loss": total / scored, "tokens": scored}


def main():
    torch.manual_seed(9)
    torch.set_num_threads(1)
    model = transformers.GPT2LMHeadModel.from_pretrained(HERE / "cases" / "gpt2-small" / "model").eval()
    ids = torch.randint(0, 259, (203,)).tolist()
    shapes = [(64, 64), (64, 32), (64, 1), (64, 63), (17, 5), (2, 1), (2, 2), (33, 33), (40, 39)]
    made = {"made_with": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
            "ids": ids, "cases": [strided_loss(model, ids, *shape) for shape in shapes]}
    (HERE / "scores" / "windows.json").write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
