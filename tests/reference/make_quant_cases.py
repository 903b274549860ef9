# SPDX-License-Identifier: Apache-2.0
"""Writes quant/nf4.safetensors and quant/int8.safetensors: matrices and what bitsandbytes makes of them on a CPU, in
4 bits plain and doubly quantized, and in int8 by rows: sizes that are no multiples of a block, blocks of zeros, one
magnitude alone, a bf16 and an fp16 matrix.
Run: python make_quant_cases.py (needs torch, safetensors and bitsandbytes, see requirements.txt)."""
from pathlib import Path

import torch
from bitsandbytes import functional
from safetensors.torch import save_file

torch.manual_seed(11)
matrices = {
    "even": torch.randn(24, 64) * 0.02,
    "odd": torch.randn(5, 21),
    "short": torch.randn(3, 33),
    "many": (torch.randn(60, 300) * torch.linspace(0.01, 3, 60)[:, None]).to(torch.bfloat16),
    "half": (torch.randn(7, 50) * 0.3).to(torch.float16),
    "zeros": torch.cat([torch.zeros(3, 64), torch.randn(1, 64), torch.zeros(1, 64)])[:, :47].contiguous(),
    "alone": torch.full((2, 64), -0.125),
    "tiny": torch.randn(2, 64) * 1e-39,
    "one": torch.tensor([[3.0]]),
}
tensors = {"dynamic": functional.create_dynamic_map().float()}
for name, matrix in matrices.items():
    tensors[name] = matrix.clone()
    for kind, doubled in (("plain", False), ("double", True)):
        codes, state = functional.quantize_4bit(matrix, quant_type="nf4", blocksize=64, compress_statistics=doubled)
        at = f"{name}.{kind}."
        tensors[at + "codes"] = codes.reshape(-1)
        tensors[at + "absmax"] = state.absmax
        tensors[at + "values"] = functional.dequantize_4bit(codes, state)
        if doubled:
            tensors[at + "outer"] = state.state2.absmax
            tensors[at + "offset"] = state.offset.reshape(1)
save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, Path(__file__).parent / "quant" / "nf4.safetensors")

# As Int8Params has it: by way of fp16.
rows = {}
for name, matrix in matrices.items():
    rows[name] = matrix.clone()
    codes, largest, _ = functional.int8_vectorwise_quant(matrix.to(torch.float16))
    rows[name + ".codes"] = torch.where(largest[:, None] == 0, 0, codes)  # 0 / 0 there
    rows[name + ".largest"] = largest
    rows[name + ".values"] = functional.int8_vectorwise_dequant(rows[name + ".codes"], largest)
save_file({name: tensor.contiguous() for name, tensor in rows.items()}, Path(__file__).parent / "quant" / "int8.safetensors")
