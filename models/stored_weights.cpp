// SPDX-License-Identifier: Apache-2.0
#include "models/stored_weights.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/parallel_for.h"
#include "models/weights.h"

namespace tenon {
namespace {

// Parts of names that DistributedDataParallel, torch.compile and FSDP put in.
constexpr std::string_view kWrappers[] = {"module", "_orig_mod", "_fsdp_wrapped_module",
                                          "_checkpoint_wrapped_module"};

// Tables of rotary positions, masks of attention, and a version number.
constexpr std::string_view kBuffers[] = {"rotary_emb.inv_freq",   "rotary_emb.cos_cached",
                                         "rotary_emb.sin_cached", "attn.bias",
                                         "attn.masked_bias",      "decoder.version"};

std::string unwrapped(const std::string& name) {
  std::string plain;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = std::string_view(name).substr(begin, end - begin);
    if (std::find(std::begin(kWrappers), std::end(kWrappers), part) == std::end(kWrappers)) {
      if (!plain.empty()) plain += '.';
      plain += part;
    }
    begin = end + 1;
  }
  return plain;
}

// Whether two tensors hold the same values, the wider rounded to the narrower.
bool agree(const TensorEntry& a, const TensorEntry& b) {
  if (a.shape != b.shape || !a.dtype || !b.dtype || !is_float(*a.dtype) || !is_float(*b.dtype))
    return false;
  if (!chunks_are_run()) return true;  // a dry run reads no weights
  const auto bytes_agree = [](const void* one, const void* other, int64_t bytes) {
    return std::memcmp(one, other, static_cast<size_t>(bytes)) == 0;
  };
  if (a.dtype == b.dtype) return bytes_agree(a.data, b.data, a.bytes);
  const bool same_width = size_of(*a.dtype) == size_of(*b.dtype);
  const DType common = same_width                              ? DType::kF32
                       : size_of(*a.dtype) < size_of(*b.dtype) ? *a.dtype
                                                               : *b.dtype;
  const auto as_common = [&](const TensorEntry& entry) {
    return cast(own(entry, {entry.elements()}, DType::kF32), common, MemoryKind::kWorkspace);
  };
  const Tensor one = as_common(a), other = as_common(b);
  return bytes_agree(one.raw(), other.raw(), one.bytes());
}

}  // namespace

bool is_buffer(const std::string& name) {
  const std::string plain = unwrapped(name);
  return std::any_of(std::begin(kBuffers), std::end(kBuffers), [&](std::string_view buffer) {
    return plain.ends_with(buffer) &&
           (plain.size() == buffer.size() || plain[plain.size() - buffer.size() - 1] == '.');
  });
}

StoredWeights StoredWeights::of(Model& model, const WeightFiles& files) {
  StoredWeights stored;
  const std::string prefix = model.optional_prefix();
  for (const TensorFile& file : files.files()) {
    for (const TensorEntry& entry : file.entries()) {
      if (is_buffer(entry.name)) continue;
      std::string path = unwrapped(entry.name);
      if (!path.starts_with(prefix) && path != kHeadWeight) path.insert(0, prefix);
      const auto [found, fresh] = stored.by_path.emplace(path, &entry);
      if (fresh) continue;
      stored.conflicts.push_back(
          fmt::format("{} is there twice, as {} and as {}", path, found->second->name, entry.name));
    }
  }
  const std::string tied = tied_path(model);
  const auto head = stored.by_path.find(kHeadWeight);
  if (tied.empty() || head == stored.by_path.end()) return stored;
  // transformers would untie a head that differs, which is not the model asked for.
  const TensorEntry* embedding = stored.by_path.emplace(tied, head->second).first->second;
  if (embedding != head->second && !agree(*head->second, *embedding)) {
    stored.conflicts.push_back(
        "lm_head.weight differs from the token embedding, though tie_word_embeddings is true");
  }
  stored.by_path.erase(head);
  return stored;
}

const TensorEntry* StoredWeights::find(const std::string& path) const {
  const auto found = by_path.find(path);
  return found == by_path.end() ? nullptr : found->second;
}

void release_pages(const TensorEntry& entry) {
  const std::span<const std::byte> mapped = entry.file->bytes();
  const std::less<> before;
  if (before(entry.data, mapped.data()) || !before(entry.data, mapped.data() + mapped.size()))
    return;
  entry.file->advise_done(entry.data - mapped.data(), entry.bytes);
}

}  // namespace tenon
