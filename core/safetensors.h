// SPDX-License-Identifier: Apache-2.0
// The safetensors format: 8 bytes little-endian N, N bytes of JSON header, then the tensors' bytes.
// The reader checks every rule of the format before it gives out a pointer; the writer makes byte
// for byte what Hugging Face's makes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/dtype.h"
#include "core/file.h"

namespace tenon {

inline constexpr int64_t kSafetensorsHeaderBytes = 100'000'000;  // the format's own limit
inline constexpr int64_t kTensorDims = 64;                       // ours; also PyTorch's

// A tensor as it lies in a file. `data` has no alignment: a file may begin a tensor at any byte.
struct TensorEntry {
  std::string name;
  std::string dtype_name;      // as the file says: "BF16", "F8_E4M3", ...
  std::optional<DType> dtype;  // absent for those that Tenon has no DType for
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  int64_t bytes = 0;
  std::shared_ptr<const MappedFile> file;  // keeps `data` alive, and names the file in messages

  int64_t elements() const;  // product of the shape
};

// An opened file: a list of entries in the order of their bytes.
class SafetensorsFile {
 public:
  // Throws Error(kInput) for the first rule that the file breaks; names what the file is when it is
  // something else. Reads the header only.
  static SafetensorsFile open(const std::filesystem::path& path);
  SafetensorsFile(SafetensorsFile&&) = default;  // not copied: the index looks at the entries
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

  const std::vector<TensorEntry>& entries() const { return entries_; }
  const TensorEntry* find(std::string_view name) const;  // nullptr when there is none
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::shared_ptr<const MappedFile>& file() const { return file_; }

 private:
  SafetensorsFile() = default;
  std::shared_ptr<const MappedFile> file_;
  std::vector<TensorEntry> entries_;
  std::unordered_map<std::string_view, size_t> index_;  // views into entries_' names
  std::map<std::string, std::string> metadata_;
};

// A tensor to be written: `data` holds its elements, row-major.
struct TensorToWrite {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  const void* data;
};

struct WrittenFile {
  std::filesystem::path path;
  int64_t bytes = 0;
  uint64_t hash = 0;  // XXH3-64 of the whole file
};

// "F32", "BF16", "F16", "I32", "I64", "U8".
std::string_view safetensors_name(DType dtype);

// Writes atomically, in the standard order (widest dtype first, then by name) whatever the order
// given. Requires: names are distinct UTF-8 and not "__metadata__".
WrittenFile write_safetensors(const std::filesystem::path& path,
                              std::span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata = {
                                  {"format", "pt"}});

}  // namespace tenon
