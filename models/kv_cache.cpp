// SPDX-License-Identifier: Apache-2.0
#include "models/kv_cache.h"

#include <algorithm>

namespace tenon {

KvCache::KvCache(int64_t blocks, int64_t channels, DType dtype, Device device)
    : blocks_(blocks), channels_(channels), dtype_(dtype), device_(device) {}

void KvCache::begin(std::vector<KvPages*> texts, int64_t fresh) {
  texts_ = std::move(texts);
  fresh_ = fresh;
  size_t most = 0;
  for (KvPages* text : texts_) {
    while (static_cast<int64_t>(text->pages.size()) * kPageTokens < text->tokens + fresh)
      text->pages.push_back(Tensor::empty({blocks_, 2, kPageTokens, channels_}, dtype_, device_));
    most = std::max(most, text->pages.size());
  }
  const auto batch = static_cast<int64_t>(texts_.size());
  std::vector<int64_t> pages;
  const Tensor past = Tensor::empty({batch}, DType::kI32);
  host_past_.clear();
  for (const KvPages* text : texts_) {
    for (size_t i = 0; i < most; ++i)
      pages.push_back(i < text->pages.size() ? reinterpret_cast<int64_t>(text->pages[i].raw()) : 0);
    host_past_.push_back(static_cast<int32_t>(text->tokens));
  }
  std::copy(host_past_.begin(), host_past_.end(), past.data<int32_t>());
  past_ = past.to(device_);
  // Of most passes the list is that of the one before.
  if (pages == host_pages_ && pages_.defined() && pages_.dim(0) == batch) return;
  host_pages_ = std::move(pages);
  const Tensor list = Tensor::empty({batch, static_cast<int64_t>(most)}, DType::kI64);
  std::copy(host_pages_.begin(), host_pages_.end(), list.data<int64_t>());
  pages_ = list.to(device_);
}

void KvCache::end() {
  for (KvPages* text : texts_) text->tokens += fresh_;
}

int64_t KvCache::longest() const {
  return *std::max_element(host_past_.begin(), host_past_.end()) + fresh_;
}

CachedKeys KvCache::block(int64_t i) const {
  const int64_t part = kPageTokens * channels_;
  return {.pages = pages_,
          .past = past_,
          .key_offset = 2 * i * part,
          .value_offset = (2 * i + 1) * part,
          .dtype = dtype_,
          .host_pages = host_pages_,
          .host_past = host_past_};
}

}  // namespace tenon
