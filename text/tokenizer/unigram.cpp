// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/unigram.h"

#include <algorithm>
#include <limits>

#include "text/tokenizer/text_decoder.h"
#include "text/utf8.h"

namespace tenon {
namespace {

constexpr float kUnknownPenalty = 10;
constexpr float kUserDefinedCost = 0.1f;

}  // namespace

Unigram::Unigram(const SentencePieceModel& model) : byte_fallback_(model.byte_fallback) {
  float least = std::numeric_limits<float>::max(), most = std::numeric_limits<float>::min();
  for (const auto& piece : model.pieces) {
    if (piece.type != SentencePieceModel::kNormal) continue;
    least = std::min(least, piece.score);
    most = std::max(most, piece.score);
  }
  unknown_score_ = least - kUnknownPenalty;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const auto& [text, type, score] = model.pieces[i];
    const auto id = static_cast<int32_t>(i);
    if (type == SentencePieceModel::kUnknown) unknown_ = id;
    if (type == SentencePieceModel::kByte) byte_id_[byte_of_token(text)] = id;
    const bool user = type == SentencePieceModel::kUserDefined;
    if (type != SentencePieceModel::kNormal && !user) continue;
    known_[text] = {id, user ? static_cast<float>(text.size()) * most - kUserDefinedCost : score};
    longest_ = std::max(longest_, text.size());
  }
}

void Unigram::encode(std::string_view normalized, std::vector<int32_t>& out,
                     std::vector<size_t>& begins) const {
  struct Best {
    float score = 0;
    int32_t id = -1;  // of the piece that ends here; -1: none yet
    size_t begin = 0;
  };
  std::vector<Best> best(normalized.size() + 1);
  const auto offer = [&](size_t begin, size_t end, int32_t id, float score) {
    const float sum = score + best[begin].score;
    if (best[end].id < 0 || sum > best[end].score) best[end] = {sum, id, begin};
  };
  for (size_t begin = 0; begin < normalized.size();) {
    const size_t character = first_utf8(normalized.substr(begin)).length;
    bool single = false;
    for (size_t length = 1; length <= std::min(longest_, normalized.size() - begin); ++length) {
      const auto found = known_.find(normalized.substr(begin, length));
      if (found == known_.end()) continue;
      offer(begin, begin + length, found->second.id, found->second.score);
      single |= length == character;
    }
    if (!single) offer(begin, begin + character, unknown_, unknown_score_);
    begin += character;
  }
  const size_t first = out.size(), first_begin = begins.size();  // filled from the end
  const auto put = [&](int32_t id, size_t begin) {
    out.push_back(id);
    begins.push_back(begin);
  };
  bool after_unknown = false;
  for (size_t end = normalized.size(); end > 0; end = best[end].begin) {
    const bool unknown = best[end].id == unknown_;
    if (unknown && byte_fallback_) {
      for (size_t i = end; i-- > best[end].begin;)
        put(byte_id_[static_cast<unsigned char>(normalized[i])], i);
    } else if (unknown && after_unknown) {  // one for several in a row
      begins.back() = best[end].begin;
    } else {
      put(best[end].id, best[end].begin);
    }
    after_unknown = unknown;
  }
  std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
  std::reverse(begins.begin() + static_cast<std::ptrdiff_t>(first_begin), begins.end());
}

}  // namespace tenon
