// SPDX-License-Identifier: Apache-2.0
// Tensors whose bytes lie in a file: what is used seldom need not be in memory, for the system writes
// its pages out and reads them back as they are touched.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "core/file.h"
#include "core/tensor.h"

namespace tenon {

// A nameless file, which goes with the last of its tensors, however the process ends.
class FileMemory : public std::enable_shared_from_this<FileMemory> {
 public:
  // In `folder`, which should lie on a disk: what lies in memory saves none. In a dry run there is no
  // file. Throws Error(kIo).
  static std::shared_ptr<FileMemory> create(const std::filesystem::path& folder);

  // A tensor of zeros, counted as mapped; written as any other. Room on the disk is taken now: throws
  // Error(kIo) where there is none.
  Tensor zeros(const Shape& shape, DType dtype);

 private:
  FileMemory() = default;
  std::optional<ScratchFile> file_;
  int64_t size_ = 0;
};

// Lets the pages of such a tensor go until they are touched again.
void release_pages(const Tensor& in_file);

}  // namespace tenon
