// SPDX-License-Identifier: Apache-2.0
// A text in the making, with its origins.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "text/jinja/value.h"

namespace tenon::jinja {

class TextBuilder {
 public:
  void add(std::string_view bytes, const Origin& origin = {}) {
    origins_.append(bytes_.size(), bytes.size(), origin);
    bytes_ += bytes;
  }
  void add(const Text& text) { add(text, text.bytes); }
  // Requires: `part` lies within the text's bytes.
  void add(const Text& text, std::string_view part) {
    const auto from = static_cast<size_t>(part.data() - text.bytes.data());
    text.origins.each(from, from + part.size(), [&](size_t begin, size_t end, const Origin& one) {
      origins_.append(bytes_.size() + begin - from, end - begin, one);
    });
    bytes_ += part;
  }

  size_t size() const { return bytes_.size(); }
  // What it takes in memory, about.
  int64_t held() const { return static_cast<int64_t>(bytes_.size() + origins_.held()); }
  void reserve(size_t bytes) { bytes_.reserve(bytes); }

  const std::string& bytes() const { return bytes_; }
  const Origins& origins() const { return origins_; }
  std::pair<std::string, Origins> take() && { return {std::move(bytes_), std::move(origins_)}; }

 private:
  std::string bytes_;
  Origins origins_;
};

}  // namespace tenon::jinja
