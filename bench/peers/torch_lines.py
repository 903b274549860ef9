#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch, PEFT and bitsandbytes at the lines of a `tenon bench ... --json` document.

  tenon bench attention --json > lines.json && python torch_lines.py lines.json [--threads N] [--json]

The document says what to run, so a shape is written once, in Tenon. Each line is done the way users of PyTorch do it.
A line that has no counterpart there is left out. compare.py runs both sides in turn.
"""
import argparse
import ctypes
import json
import os
import statistics
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("lines", type=Path, help="the document")
parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("--runs", type=int, default=7)
parser.add_argument("--seconds", type=float, default=0.3)
parser.add_argument("--json", action="store_true")
options = parser.parse_args()
if options.threads:
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch is loaded
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import torch.nn.functional as F

if options.threads:
    torch.set_num_threads(options.threads)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}


def drawn(*shape, dtype=torch.float32, low=-1.0, high=1.0):
    return torch.rand(*shape, device=options.device).mul(high - low).add(low).to(dtype)


def seconds_of(run):
    """Median and quartiles of a run."""
    wait = (lambda: None) if options.device == "cpu" else torch.cuda.synchronize

    def group(runs):
        wait()
        begin = time.perf_counter()
        for _ in range(runs):
            run()
        wait()
        return (time.perf_counter() - begin) / runs

    run()
    least = 1 if options.device == "cpu" else 10
    runs = min(1000, max(least, int(1e-4 / max(group(1), 1e-9))))
    times = []
    while len(times) < options.runs or sum(times) * runs < options.seconds:
        times.append(group(runs))
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return {"ms": middle * 1e3, "ms_low": low * 1e3, "ms_high": high * 1e3, "runs": len(times)}


def gemm(line, dtype):
    m, n, k = line["m"], line["n"], line["k"]
    if dtype == torch.int8:
        return int8_gemm(m, n, k)
    a = drawn(k, m, dtype=dtype).t() if line["transpose_a"] else drawn(m, k, dtype=dtype)
    b = drawn(n, k, dtype=dtype).t() if line["transpose_b"] else drawn(k, n, dtype=dtype)
    return "PyTorch", {"": lambda: a @ b}


def int8_gemm(m, n, k):
    """bitsandbytes' product of rows with scales where it is installed, else PyTorch's with the scales applied to it."""
    a = torch.randint(-127, 128, (m, k), dtype=torch.int8, device=options.device)
    b = torch.randint(-127, 128, (n, k), dtype=torch.int8, device=options.device)
    of_a, of_b = drawn(m, low=0.001, high=0.01), drawn(n, low=0.001, high=0.01)
    try:
        import bitsandbytes.functional as bnb

        bnb.int8_mm_dequant(bnb.int8_linear_matmul(a, b), of_a, of_b)
        return "bitsandbytes", {"": lambda: bnb.int8_mm_dequant(bnb.int8_linear_matmul(a, b), of_a, of_b)}
    except ImportError:
        return "PyTorch", {"": lambda: torch._int_mm(a, b.t()).float() * of_a[:, None] * of_b}


def lora(line, dtype):
    import peft

    x, dy = drawn(line["rows"], line["in"], dtype=dtype), drawn(line["rows"], line["out"], dtype=dtype)
    x.requires_grad_()

    def layer():
        return torch.nn.Sequential(torch.nn.Linear(line["in"], line["out"], bias=False, dtype=dtype)).to(options.device)

    frozen = layer().requires_grad_(False)
    adapted = peft.get_peft_model(layer(), peft.LoraConfig(r=line["rank"], lora_alpha=2 * line["rank"],
                                                           lora_dropout=0.0, target_modules=["0"]))

    def run(module):
        module(x).backward(dy)

    return "PEFT", {"": lambda: run(adapted), "frozen": lambda: run(frozen)}


def attention(line, dtype):
    B, H, G, D = line["batch"], line["heads"], line["kv_heads"], line["head_size"]
    T, S = line["queries"], line["keys"]

    def heads(tokens, count):  # a view, as it comes out of a projection
        return drawn(B, tokens, count, D, dtype=dtype).transpose(1, 2)

    q, k, v = heads(T, H), heads(S, G), heads(S, G)
    dout = drawn(B, T, H, D, dtype=dtype).transpose(1, 2)
    if line["backward"]:
        for tensor in (q, k, v):
            tensor.requires_grad_()

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=T == S, enable_gqa=H != G)

    return "PyTorch SDPA", {"": (lambda: torch.autograd.grad(forward(), (q, k, v), dout)) if line["backward"] else forward}


def loss(line, dtype):
    rows, V, C = line["rows"], line["vocabulary"], line["channels"]
    x = drawn(rows, C, dtype=dtype).requires_grad_()
    weight = drawn(V, C, dtype=dtype, low=-0.1, high=0.1).requires_grad_(line["trained"])
    targets = torch.randint(0, V, (rows,), device=options.device)
    targets[: rows - max(1, rows * line["percent"] // 100)] = -100

    def run():
        F.cross_entropy(F.linear(x, weight).float(), targets).backward()

    return "PyTorch", {"": run}


def rows(line, dtype):
    """The kernels that have one counterpart in PyTorch, by name; others return None."""
    R, C = line["rows"], line["channels"]
    x, dy = drawn(R, C, dtype=dtype, low=-4, high=4), drawn(R, C, dtype=dtype)
    weight, bias = drawn(C, dtype=dtype), drawn(C, dtype=dtype)
    out = torch.empty_like(x)
    name = line["name"]
    kinds = {"gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "gelu_erf": F.gelu, "relu": F.relu,
             "silu": F.silu, "tanh": torch.tanh}

    def backward(function, *inputs):
        inputs = [each.clone().requires_grad_() for each in inputs]
        y = function(*inputs)
        return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)

    def updated(kind, **more):
        parameter = torch.nn.Parameter(drawn(R * C))
        parameter.grad = drawn(R * C)
        return kind([parameter], lr=1e-3, **more).step

    kernel, _, kind = name.partition(" ")
    makers = {
        "layer_norm": lambda: lambda: F.layer_norm(x, (C,), weight, bias),
        "layer_norm with residual": lambda: lambda: F.layer_norm(x + dy, (C,), weight, bias),
        "layer_norm_grad": lambda: backward(lambda x, w, b: F.layer_norm(x, (C,), w, b), x, weight, bias),
        "rms_norm with residual": lambda: lambda: F.rms_norm(x + dy, (C,), weight, 1e-5),
        "rms_norm_grad": lambda: backward(lambda x, w: F.rms_norm(x, (C,), w, 1e-5), x, weight),
        "gated_activation silu": lambda: lambda: F.silu(x) * dy,
        "gated_activation_grad silu": lambda: backward(lambda g, u: F.silu(g) * u, x, dy),
        "dropout": lambda: lambda: F.dropout(x, 0.1),
        "column_sum": lambda: lambda: x.sum(0),
        "add": lambda: lambda: torch.add(x, dy, out=out),
        "scale": lambda: lambda: torch.mul(x, 0.7, out=out),
        "fill": lambda: lambda: out.fill_(0.7),
        "cross_entropy": lambda: lambda: F.cross_entropy(x, targets, reduction="none"),
        "adamw": lambda: updated(torch.optim.AdamW, fused=True),
        "sgd with momentum": lambda: updated(torch.optim.SGD, momentum=0.9, fused=True),
    }
    if name == "cross_entropy":
        x, targets = x.float(), torch.randint(0, C, (R,), device=options.device)
    if kernel == "activation" and kind in kinds:
        return "PyTorch", {"": lambda: kinds[kind](x)}
    if kernel == "activation_grad" and kind in kinds:
        return "PyTorch", {"": backward(kinds[kind], x)}
    return ("PyTorch", {"": makers[name]()}) if name in makers else None


def status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024


def extra_memory(run):
    """How far resident memory rises during a run, gradients that are there already not counted."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier run has freed is given back
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        return None
    before = status("VmRSS")
    run()
    return status("VmHWM") - before


def figure_of(line):
    made = globals()[line["group"]](line, DTYPES[line["dtype"]])
    if made is None:
        return None
    name, runs = made
    figure = {"name": name, **seconds_of(runs[""])}
    if "frozen" in runs:
        figure["ms_frozen"] = seconds_of(runs["frozen"])["ms"]
    if line["group"] == "loss" and options.device == "cpu":
        figure["extra_bytes"] = extra_memory(runs[""])
    return figure


def main():
    document = json.loads(options.lines.read_text())
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} threads"
    versions = {"torch": torch.__version__}
    print(f"PyTorch {torch.__version__} on {options.device}, {where}", file=sys.stderr)
    figures = []
    for line in document["lines"]:
        try:
            figures.append(figure_of(line) if line["group"] in ("gemm", "lora", "attention", "loss", "rows") else None)
        except (RuntimeError, NotImplementedError) as error:  # a dtype that this version has not on this device
            print(f"{line['name']} {line['size']} {line['dtype']}: {error}".splitlines()[0], file=sys.stderr)
            figures.append(None)
        if figures[-1] and not options.json:
            print(f"{line['group']:9} {line['name']:34} {line['size']:24} {line['dtype']:4} "
                  f"{figures[-1]['ms']:10.3f} ms  {figures[-1]['name']}", flush=True)
    if options.json:
        print(json.dumps({"versions": versions, "figures": figures}))


if __name__ == "__main__":
    main()
