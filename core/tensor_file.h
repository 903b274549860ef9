// SPDX-License-Identifier: Apache-2.0
// A file of named tensors, whichever format it has: what the readers of safetensors and of PyTorch's
// .bin make, and what those who want weights look at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/dtype.h"
#include "core/file.h"

namespace tenon {

inline constexpr int64_t kTensorDims = 64;  // ours; also PyTorch's

// A tensor as it lies in a file. `data` has no alignment: a file may begin a tensor at any byte.
struct TensorEntry {
  std::string name;
  std::string dtype_name;      // as safetensors says it: "BF16", "F8_E4M3", ...
  std::optional<DType> dtype;  // absent for those that Tenon has no DType for
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;  // row-major
  int64_t bytes = 0;
  std::shared_ptr<const MappedFile> file;  // keeps `data` alive, and names the file in messages

  int64_t elements() const;  // product of the shape
};

// An opened file: a list of entries. Not copied: the index looks at the entries.
class TensorFile {
 public:
  // Reads a .bin, .pt or .pth as PyTorch's and everything else as safetensors. Throws Error(kInput).
  static TensorFile open(const std::filesystem::path& path);
  // Requires: distinct names.
  TensorFile(std::shared_ptr<const MappedFile> file, std::vector<TensorEntry> entries,
             std::map<std::string, std::string> metadata = {});
  TensorFile(TensorFile&&) = default;
  TensorFile& operator=(TensorFile&&) = default;

  const std::vector<TensorEntry>& entries() const { return entries_; }
  const TensorEntry* find(std::string_view name) const;  // nullptr when there is none
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::shared_ptr<const MappedFile>& file() const { return file_; }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::vector<TensorEntry> entries_;
  std::unordered_map<std::string_view, size_t> index_;  // views into entries_' names
  std::map<std::string, std::string> metadata_;
};

// True for the names of files that TensorFile::open() reads as PyTorch's.
bool has_torch_name(const std::filesystem::path& path);

// What a file is by its first bytes, with advice where there is some; "" when nothing known: for
// messages about a file that is not what its name says.
std::string_view kind_of_content(std::string_view text);

}  // namespace tenon
