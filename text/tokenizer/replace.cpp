// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/replace.h"

#include "core/error.h"
#include "text/tokenizer/split.h"

namespace tenon {
namespace {

// Far above what normalizers do: NFKC makes at most 11 bytes of one.
constexpr size_t kMostTimes = 64, kFreeBytes = 1 << 20;

// The new text, with the marks moved along.
class Rewritten {
 public:
  Rewritten(Growth* growth, Marks marks) : growth_(growth), marks_(marks) {}

  void keep(std::string_view part) {
    if (growth_ != nullptr) growth_->add(part.size());
    for (; done_ < marks_.size() && marks_[done_] < read_ + part.size(); ++done_)
      marks_[done_] += out_.size() - read_;
    read_ += part.size();
    out_ += part;
  }

  // `content` for the next `bytes`.
  void replace(size_t bytes, std::string_view content) {
    if (growth_ != nullptr) growth_->add(content.size());
    for (; done_ < marks_.size() && marks_[done_] < read_ + bytes; ++done_)
      marks_[done_] = out_.size();
    read_ += bytes;
    out_ += content;
  }

  std::string finish() {
    set_marks(marks_.subspan(done_), out_.size());
    return std::move(out_);
  }

 private:
  Growth* growth_;
  Marks marks_;
  size_t done_ = 0, read_ = 0;  // marks that are moved; bytes of the old text
  std::string out_;
};

}  // namespace

void Growth::add(size_t bytes) {
  made_ += bytes;
  if (made_ <= kFreeBytes + kMostTimes * given_) return;
  fail_input(
      "{}: expected at most {} times as much text as is given and {} bytes, got more from {}",
      place_, kMostTimes, kFreeBytes, given_);
}

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content,
                        Growth* growth, Marks marks) {
  if (pattern.empty()) return std::string(text);
  Rewritten rewritten(growth, marks);
  for (;;) {
    const size_t found = text.find(pattern);
    rewritten.keep(text.substr(0, found));
    if (found == text.npos) return rewritten.finish();
    rewritten.replace(pattern.size(), content);
    text.remove_prefix(found + pattern.size());
  }
}

std::string replace_all(std::string_view text, const RegexSplitter& pattern,
                        std::string_view content, Growth* growth, Marks marks) {
  Rewritten rewritten(growth, marks);
  if (text.empty()) return rewritten.finish();
  for (const RegexSplitter::Part& part : pattern.find_parts(text)) {
    if (part.match) {
      rewritten.replace(part.end - part.begin, content);
    } else {
      rewritten.keep(text.substr(part.begin, part.end - part.begin));
    }
  }
  return rewritten.finish();
}

}  // namespace tenon
