// SPDX-License-Identifier: Apache-2.0
// PyTorch's own checkpoints (pytorch_model.bin), as torch.save writes them since 1.6: a zip archive
// of stored members, `NAME/data.pkl` with a pickled dict of tensors and `NAME/data/KEY` with the
// bytes of each storage. Nothing of the pickle is executed: it is read as data (core/pickle.h), and
// of all that Python might call, it may name only what rebuilds a tensor.
#pragma once

#include <filesystem>

#include "core/tensor_file.h"

namespace tenon {

// Throws Error(kInput). Tensors lie in the file as it is mapped; those that are not contiguous are
// copied row-major, and fp64 becomes fp32: such copies take at most as much memory as the file has
// bytes. Tensors that share a storage, such as a tied head, share their `data`.
TensorFile read_torch_file(const std::filesystem::path& path);

}  // namespace tenon
