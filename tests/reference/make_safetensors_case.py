# SPDX-License-Identifier: Apache-2.0
"""Writes cases/safetensors/hugging_face.safetensors with Hugging Face's own writer: every dtype that Tenon
writes, names that must be escaped, a scalar and an empty tensor. The C++ test writes the same tensors and compares
the files byte for byte. Run: python make_safetensors_case.py (needs torch and safetensors, see requirements.txt)."""
from pathlib import Path

import torch
from safetensors.torch import save_file

folder = Path(__file__).parent / "cases" / "safetensors"
folder.mkdir(parents=True, exist_ok=True)
tensors = {
    "h.0.w": torch.arange(6, dtype=torch.float32).view(2, 3),
    "scalar": torch.tensor(3.5),
    "empty": torch.zeros(0, 7),
    'quote"\\\n\x01\u00e9\x7f': torch.ones(1),
    "a.bf16": torch.arange(4).to(torch.bfloat16),
    "z.f16": torch.arange(3).to(torch.float16),
    "count.i64": torch.arange(2),
    "count.i32": torch.arange(3, dtype=torch.int32),
    "codes": torch.arange(3, dtype=torch.uint8),
}
save_file(tensors, folder / "hugging_face.safetensors", metadata={"format": "pt"})
