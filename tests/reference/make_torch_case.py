# SPDX-License-Identifier: Apache-2.0
"""Writes cases/torch with PyTorch's own torch.save: `views/` is one file with tensors of every dtype that share
storages, are transposed, sliced, parameters, scalars or empty; `shards/` is the same in two files with an index; and
`views.safetensors` holds what they should be read as, row-major, fp64 as fp32 (dtypes that Hugging Face's writer
knows). The C++ test compares all. Run: python make_torch_case.py (needs torch and safetensors, see requirements.txt)."""
import collections
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

folder = Path(__file__).parent / "cases" / "torch"
torch.manual_seed(7)
matrix = torch.randn(4, 6)
half = torch.arange(24).to(torch.float16).view(2, 3, 4)
tensors = collections.OrderedDict(
    {
        "embed.weight": matrix,
        "lm_head.weight": matrix,
        "transposed": matrix.t(),
        "transposed.again": matrix.t(),
        "rows": matrix[1:3],
        "columns": matrix[:, 1::2],
        "permuted": half.permute(2, 0, 1),
        "broadcast": torch.tensor([1.5, -2.0]).expand(3, 2),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "frozen": torch.nn.Parameter(torch.randn(2, 1).to(torch.bfloat16), requires_grad=False),
        "fp64": torch.tensor([0.1, -3.0e-300, 7.0], dtype=torch.float64),
        "fp64.strided": torch.arange(6, dtype=torch.float64)[::2],
        "int64": torch.tensor([[2**62, -1]]),
        "int32": torch.tensor([2**31 - 1, -5], dtype=torch.int32),
        "int16": torch.tensor([300, -300], dtype=torch.int16)[1:],
        "int8": torch.tensor([-128, 127], dtype=torch.int8),
        "uint8": torch.tensor([[[1]], [[255]]], dtype=torch.uint8),
        "mask": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 7),
        "ünïcode": torch.ones(1),
    }
)
tensors._metadata = collections.OrderedDict({"": {"version": 1}, "h": {"version": 2, "scale": 0.5, "large": 2**40}})

(folder / "views").mkdir(parents=True, exist_ok=True)
torch.save(tensors, folder / "views" / "pytorch_model.bin")

(folder / "shards").mkdir(exist_ok=True)
names = list(tensors)
weight_map = {}
for i, part in enumerate([names[:9], names[9:]], 1):
    file = f"pytorch_model-{i:05d}-of-00002.bin"
    torch.save({name: tensors[name] for name in part}, folder / "shards" / file)
    weight_map |= {name: file for name in part}
index = {"metadata": {}, "weight_map": weight_map}
(folder / "shards" / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")

expected = {name: (t.float() if t.dtype == torch.float64 else t).detach().clone() for name, t in tensors.items()}
save_file({name: t.contiguous() for name, t in expected.items()}, folder / "views.safetensors")
