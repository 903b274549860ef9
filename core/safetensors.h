// SPDX-License-Identifier: Apache-2.0
// The safetensors format: 8 bytes little-endian N, N bytes of JSON header, then the tensors' bytes.
// The reader checks every rule of the format before it gives out a pointer; the writer makes byte
// for byte what Hugging Face's makes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"
#include "core/tensor_file.h"

namespace tenon {

inline constexpr int64_t kSafetensorsHeaderBytes = 100'000'000;  // the format's own limit

// An opened safetensors file, with its entries in the order of their bytes.
class SafetensorsFile : public TensorFile {
 public:
  // Throws Error(kInput) for the first rule that the file breaks; names what the file is when it is
  // something else. Reads the header only.
  static SafetensorsFile open(const std::filesystem::path& path);

 private:
  using TensorFile::TensorFile;
};

// A tensor to be written, row-major. Its bytes are there, or are made when it is its turn and given
// up when they are written, so that a large model need not be held as a whole.
struct TensorToWrite {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  const void* data;                   // its elements, or null where `make` gives them
  std::function<Tensor()> make = {};  // a tensor on the host with as many bytes
  std::string format = {};  // any dtype name of the format, to be written instead of dtype's
  // What a message says of an element that is inf or NaN: where it came from.
  std::function<std::string(int64_t index)> origin = {};
  bool any_number = false;  // inf and NaN may be written

  int64_t elements() const;
  int64_t bytes() const;
};

struct WrittenFile {
  std::filesystem::path path;
  int64_t bytes = 0;
  uint64_t hash = 0;  // XXH3-64 of the whole file
};

// "F32", "BF16", "F16", "I32", "I64", "U8", "I8"; and back, absent for names that are no DType's.
std::string_view safetensors_name(DType dtype);
std::optional<DType> dtype_of_format(std::string_view name);

// Writes atomically, in the standard order (widest dtype first, then by name) whatever the order
// given. A tensor that would be written with an inf or a NaN, by a cast or from the start, is
// Error(kNumeric) with its name and the element, and nothing is written. Requires: names are distinct
// UTF-8 and not "__metadata__".
WrittenFile write_safetensors(const std::filesystem::path& path,
                              std::span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata = {
                                  {"format", "pt"}});

}  // namespace tenon
