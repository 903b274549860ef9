# SPDX-License-Identifier: Apache-2.0
"""Writes tests/models/sampling_cases.json: what transformers' logits processors leave of some logits.

usage: make_sampling_cases.py OUT.json    (versions: requirements.txt)
"""
import json
import sys

import torch
from transformers.generation.logits_process import (LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor,
                                                    TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

VOCABULARY = 29
OPTIONS = [
    {"temperature": 1.0},
    {"temperature": 0.6, "top_p": 0.9},
    {"temperature": 1.0, "repetition_penalty": 1.3},
    {"temperature": 0.7, "repetition_penalty": 0.8, "top_k": 7},
    {"temperature": 1.5, "min_p": 0.1},
    {"temperature": 2.0, "top_k": 12, "top_p": 0.8, "min_p": 0.2, "repetition_penalty": 1.7},
    {"temperature": 0.9, "top_p": 0.5, "min_p": 0.02, "repetition_penalty": 1.1},
]


def probabilities(logits, ids, options):
    """In the order in which transformers' generate() applies them."""
    steps = LogitsProcessorList()
    if "repetition_penalty" in options:
        steps.append(RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]))
    steps.append(TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        steps.append(TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        steps.append(TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        steps.append(MinPLogitsWarper(options["min_p"]))
    return torch.softmax(steps(ids[None], logits[None].clone())[0].double(), -1)


def main():
    torch.manual_seed(3)
    cases = []
    for options in OPTIONS:
        for _ in range(4):
            logits = torch.randn(VOCABULARY) * 2
            ids = torch.randint(0, VOCABULARY, (9,))
            cases.append({"options": options, "logits": logits.tolist(), "ids": ids.tolist(),
                          "probabilities": probabilities(logits, ids, options).tolist()})
    with open(sys.argv[1], "w") as out:
        json.dump(cases, out, separators=(",", ":"))
        out.write("\n")


main()
