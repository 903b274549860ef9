// SPDX-License-Identifier: Apache-2.0
// Stop words in a text that comes in pieces: it ends before the first of them that is complete, and
// what is given out never holds a part of that.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tenon {

class StopText {
 public:
  // Requires: no word is empty.
  explicit StopText(std::vector<std::string> words) : words_(std::move(words)) {}
  // What is certain to stand before every stop word and was not given out yet; nothing more after
  // one was found.
  std::string push(std::string_view piece);
  // What was held back, at the end of the text.
  std::string finish();
  bool found() const { return found_; }

 private:
  std::vector<std::string> words_;
  std::string held_;  // perhaps the begin of a word
  bool found_ = false;
};

}  // namespace tenon
