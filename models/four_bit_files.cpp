// SPDX-License-Identifier: Apache-2.0
#include "models/four_bit_files.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "models/quantized_parts.h"
#include "models/weights.h"

namespace tenon {
namespace {

constexpr const char* kStates[] = {".quant_state.bitsandbytes__nf4",
                                   ".quant_state.bitsandbytes__fp4"};

// Codes may be stored as bytes, or as wider elements that hold the same bytes.
Tensor take_codes(StoredWeights& stored, const std::string& path, int64_t bytes) {
  const auto found = stored.by_path.find(path);
  const TensorEntry& entry = *found->second;
  stored.by_path.erase(found);
  if (entry.bytes != bytes)
    reject_tensor(entry,
                  fmt::format("expected {} bytes of 4-bit codes, got {}", bytes, entry.bytes));
  return Tensor::borrow(entry.data, {bytes}, DType::kU8, entry.file);
}

}  // namespace

bool stored_in_four_bit(const StoredWeights& stored, const std::string& path) {
  return stored.find(path) != nullptr &&
         (stored.find(path + kStates[0]) != nullptr || stored.find(path + kStates[1]) != nullptr);
}

bool is_four_bit_part(const std::string& name) {
  constexpr const char* kParts[] = {".weight.absmax", ".weight.quant_map", ".weight.nested_absmax",
                                    ".weight.nested_quant_map"};
  return name.find(".weight.quant_state.") != std::string::npos ||
         std::any_of(std::begin(kParts), std::end(kParts),
                     [&](const char* part) { return name.ends_with(part); });
}

FourBitMatrix take_four_bit(StoredWeights& stored, const std::string& path, const Shape& shape) {
  const bool fp4 = stored.find(path + kStates[0]) == nullptr;
  const std::string name = path + kStates[fp4];
  const TensorEntry& entry = *stored.find(name);
  const std::string where =
      fmt::format("{}: tensor \"{}\"", shown(entry.file->path()), printable(entry.name));
  const JsonObject state(
      parse_json({reinterpret_cast<const char*>(entry.data), static_cast<size_t>(entry.bytes)},
                 where),
      where);
  FourBitMatrix m{.shape = shape, .kind = fp4 ? "fp4" : "nf4"};
  state.choice("quant_type", {m.kind});
  m.block = state.integer("blocksize", 32, 4096);
  if (!std::has_single_bit(static_cast<uint64_t>(m.block)))
    state.reject("blocksize", "a power of 2");
  const std::string dtype = state.choice("dtype", {"float32", "bfloat16", "float16"}, "float32");
  m.dtype = dtype == "float32" ? DType::kF32 : dtype == "float16" ? DType::kF16 : DType::kBF16;
  const std::vector<int64_t> stated = state.integers("shape", 1, int64_t{1} << 40);
  if (stated != std::vector<int64_t>{shape[0], shape[1]})
    state.reject("shape", "config.json's " + shape.text());
  const int64_t blocks = m.blocks();
  const bool doubled = state.has("nested_offset");
  m.numbers = take_part(stored, path + ".quant_map", DType::kF32, 16, entry);
  if (doubled) {
    m.outer_block = state.integer("nested_blocksize", 32, 4096);
    if (!std::has_single_bit(static_cast<uint64_t>(m.outer_block)))
      state.reject("nested_blocksize", "a power of 2");
    m.offset = static_cast<float>(state.number("nested_offset", -3e38, 3e38));
    const int64_t outer = (blocks + m.outer_block - 1) / m.outer_block;
    m.scale_codes = take_part(stored, path + ".absmax", DType::kU8, blocks, entry);
    m.scale_numbers = take_part(stored, path + ".nested_quant_map", DType::kF32, 256, entry);
    m.outer_scales = take_part(stored, path + ".nested_absmax", DType::kF32, outer, entry);
    check_scales(m.outer_scales, entry);
  } else {
    m.scales = take_part(stored, path + ".absmax", DType::kF32, blocks, entry);
    check_scales(m.scales, entry);
  }
  check_scales(m.numbers, entry);
  m.codes = take_codes(stored, path, (shape.numel() + 1) / 2);
  stored.by_path.erase(name);
  return m;
}

std::vector<TensorToWrite> four_bit_tensors(const std::string& name, const FourBitMatrix& m) {
  OrderedJson state = {{"quant_type", m.kind},
                       {"blocksize", m.block},
                       {"dtype", torch_name(m.dtype)},
                       {"shape", {m.shape[0], m.shape[1]}}};
  std::vector<TensorToWrite> tensors = {part_to_write(name, m.codes, {m.codes.numel(), 1}),
                                        part_to_write(name + ".quant_map", m.numbers)};
  if (m.doubled()) {
    state["nested_blocksize"] = m.outer_block;
    state["nested_dtype"] = "float32";
    state["nested_offset"] = static_cast<double>(m.offset);
    tensors.push_back(part_to_write(name + ".absmax", m.scale_codes));
    tensors.push_back(part_to_write(name + ".nested_absmax", m.outer_scales));
    tensors.push_back(part_to_write(name + ".nested_quant_map", m.scale_numbers));
  } else {
    tensors.push_back(part_to_write(name + ".absmax", m.scales));
  }
  // As Python writes it: a space after each colon and comma.
  std::string text;
  for (const auto& [key, value] : state.items()) {
    std::string shown_value = value.dump();
    if (value.is_array()) shown_value = fmt::format("[{}, {}]", m.shape[0], m.shape[1]);
    text += fmt::format("{}\"{}\": {}", text.empty() ? "{" : ", ", key, shown_value);
  }
  text += "}";
  Tensor bytes = Tensor::empty({std::ssize(text)}, DType::kU8, MemoryKind::kWorkspace);
  std::memcpy(bytes.raw(), text.data(), text.size());
  tensors.push_back(part_to_write(name + ".quant_state.bitsandbytes__" + m.kind, bytes));
  return tensors;
}

}  // namespace tenon
