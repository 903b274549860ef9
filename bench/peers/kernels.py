#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch at the sizes of `tenon bench`, a line a kernel: the same names, so that the two outputs lie side by side.

  python kernels.py [--device cpu|cuda] [--dtype fp32|bf16|fp16] [--threads N] [KERNEL...]
"""
import argparse
import statistics
import time

import torch
import torch.nn.functional as F

B, T, C, H, D, V = 4, 512, 768, 12, 64, 50257
ROWS = B * T
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# m, n, k and how the operands lie, as in bench/matmul_bench.cpp; the LoRA ones as PEFT computes them.
MATMULS = {
    "mlp_up": (2048, 3072, 768, False, False),
    "mlp_up_b_transposed": (2048, 3072, 768, False, True),
    "mlp_down": (2048, 768, 3072, False, False),
    "qkv": (2048, 2304, 768, False, False),
    "head": (512, 50257, 768, False, True),
    "head_dx": (512, 768, 50257, False, False),
    "mlp_up_dx": (2048, 768, 3072, False, True),
    "mlp_up_dw": (768, 3072, 2048, True, False),
    "lora_x_a": (2048, 8, 768, False, True),
    "lora_da": (8, 768, 2048, True, False),
    "lora_db": (2304, 8, 2048, True, False),
    "generate_1": (1, 3072, 768, False, False),
    "generate_1_head": (1, 50257, 768, False, True),
    "small": (64, 64, 64, False, False),
}


def seconds_of(run, device):
    group = 1 if device == "cpu" else 10
    wait = (lambda: None) if device == "cpu" else torch.cuda.synchronize
    run()
    times = []
    while len(times) < 7 or sum(times) * group < 0.3:
        wait()
        begin = time.perf_counter()
        for _ in range(group):
            run()
        wait()
        times.append((time.perf_counter() - begin) / group)
    return statistics.median(times)


def cases(device, dtype):
    """(kernel, size, function) in the order of tenon bench."""
    drawn = lambda *shape, kind=dtype: torch.rand(*shape, device=device, dtype=torch.float32).mul(2).sub(1).to(kind)
    for name, (m, n, k, ta, tb) in MATMULS.items():
        a = drawn(k, m).t() if ta else drawn(m, k)
        b = drawn(n, k).t() if tb else drawn(k, n)
        yield name, f"{m}x{n}x{k}", lambda a=a, b=b: a @ b
    x, w, base = drawn(2048, 768), drawn(768, 2304), drawn(768, 2304)
    lora_a, lora_b = drawn(768, 8), drawn(8, 2304)
    yield "qkv_lora", "2048x2304x768+8", lambda: x @ base + (x @ lora_a) @ lora_b

    ids = torch.randint(0, V, (ROWS,), device=device)
    table = drawn(V, C).requires_grad_()
    yield "embedding", f"{ROWS}x{C}", lambda: F.embedding(ids, table)
    rows = F.embedding(ids, table)
    drows = drawn(ROWS, C)
    yield "embedding_grad", f"{ROWS}x{C}", lambda: torch.autograd.grad(rows, table, drows, retain_graph=True)

    r, s, gain, shift = drawn(ROWS, C), drawn(ROWS, C), drawn(C), drawn(C)
    yield "layer_norm", f"{ROWS}x{C} with residual", lambda: F.layer_norm(r + s, (C,), gain, shift)
    s.requires_grad_(), gain.requires_grad_(), shift.requires_grad_()
    y = F.layer_norm(s, (C,), gain, shift)
    yield "layer_norm_grad", f"{ROWS}x{C}", lambda: torch.autograd.grad(y, (s, gain, shift), r, retain_graph=True)

    wide, dwide = drawn(ROWS, 4 * C).requires_grad_(), drawn(ROWS, 4 * C)
    other = drawn(ROWS, 4 * C)
    act = F.gelu(wide, approximate="tanh")
    size = f"{ROWS}x{4 * C}"
    plain = wide.detach()
    yield "activation", size, lambda: F.gelu(plain, approximate="tanh")
    yield "activation_grad", size, lambda: torch.autograd.grad(act, wide, dwide, retain_graph=True)
    yield "dropout", size, lambda: F.dropout(plain, 0.1)
    yield "add", size, lambda: plain + other
    yield "column_sum", size, lambda: plain.sum(0)

    q, k, v = (drawn(B, H, T, D).requires_grad_() for _ in range(3))
    size = f"b={B} t={T} h={H} d={D}"
    attend = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
    dout = drawn(B, H, T, D)
    yield "attention", size, attend
    yield "attention_grad", size + " (forward too)", lambda: torch.autograd.grad(attend(), (q, k, v), dout)

    logits = drawn(256, V, kind=torch.float32).requires_grad_()
    targets = torch.randint(0, V, (256,), device=device)
    yield ("cross_entropy", f"256x{V} fp32 with gradient",
           lambda: torch.autograd.grad(F.cross_entropy(logits, targets, reduction="sum"), logits))

    weight = torch.nn.Parameter(drawn(12 * C * C, kind=torch.float32))
    weight.grad = drawn(12 * C * C, kind=torch.float32)
    optimizer = torch.optim.AdamW([weight], lr=1e-3, fused=True)
    yield "adamw", f"{12 * C * C}", optimizer.step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="*")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="fp32", choices=list(DTYPES))
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"PyTorch {torch.__version__} on {options.device}, {where}")
    for kernel, size, run in cases(options.device, DTYPES[options.dtype]):
        if options.kernels and kernel not in options.kernels:
            continue
        print(f"{kernel:20} {size:32} {options.dtype:4} {seconds_of(run, options.device) * 1e3:9.3f} ms", flush=True)


if __name__ == "__main__":
    main()
