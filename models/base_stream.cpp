// SPDX-License-Identifier: Apache-2.0
#include "models/base_stream.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "core/counting.h"
#include "core/file.h"

namespace tenon {
namespace {

// The block that a path names, its first part that is a number; or -1.
int64_t block_of(std::string_view path) {
  for (size_t at = 0; at < path.size();) {
    const size_t end = std::min(path.find('.', at), path.size());
    int64_t number = -1;
    const auto [rest, error] = std::from_chars(path.data() + at, path.data() + end, number);
    if (error == std::errc() && rest == path.data() + end) return number;
    at = end + 1;
  }
  return -1;
}

}  // namespace

BaseStream::BaseStream(Model& model) : blocks_(static_cast<size_t>(model.blocks())) {
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    const int64_t block = block_of(path);
    if (parameter.trainable || block < 0 || block >= model.blocks()) return;
    const auto add = [&](const Tensor& tensor) {
      if (!tensor.defined() || !in_mapped_file(tensor.raw(), tensor.bytes())) return;
      blocks_[static_cast<size_t>(block)].push_back({tensor.raw(), tensor.bytes()});
    };
    add(parameter.value);
    if (parameter.quantized.defined())
      for (const Tensor& part : parameter.quantized.parts()) add(part);
  });
}

void BaseStream::begin(int64_t i, int64_t next) const {
  if (counting() != nullptr) return;
  for (const Range& range : blocks_[static_cast<size_t>(i)])
    advise_pages(range.data, range.bytes, Pages::kMap);
  if (next < 0 || next >= static_cast<int64_t>(blocks_.size())) return;
  for (const Range& range : blocks_[static_cast<size_t>(next)])
    advise_pages(range.data, range.bytes, Pages::kSoon);
}

void BaseStream::end(int64_t i) const {
  if (counting() != nullptr) return;
  for (const Range& range : blocks_[static_cast<size_t>(i)])
    advise_pages(range.data, range.bytes, Pages::kDone);
}

int64_t BaseStream::largest_block() const {
  int64_t largest = 0;
  for (const std::vector<Range>& block : blocks_) largest = std::max(largest, bytes_of(block));
  return largest;
}

int64_t BaseStream::bytes() const {
  int64_t sum = 0;
  for (const std::vector<Range>& block : blocks_) sum += bytes_of(block);
  return sum;
}

int64_t BaseStream::bytes_of(const std::vector<Range>& ranges) {
  int64_t sum = 0;
  for (const Range& range : ranges) sum += range.bytes;
  return sum;
}

}  // namespace tenon
