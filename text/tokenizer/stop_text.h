// SPDX-License-Identifier: Apache-2.0
// Stop words in a text that comes in pieces, or token by token: it ends before the first of them that
// is complete, and what is given out never holds a part of that.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer/tokenizer.h"

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

// What tokens say up to a stop word, without the special ones.
class StoppedDecoder {
 public:
  // Requires: no word is empty. The tokenizer must outlive it.
  StoppedDecoder(const Tokenizer& tokenizer, std::vector<std::string> words)
      : decoder_(tokenizer, true), stop_(std::move(words)) {}
  // The text that is certain with this id.
  std::string push(int32_t id) { return stop_.push(decoder_.push(id)); }
  // What is left at the end.
  std::string finish() {
    std::string text = stop_.push(decoder_.finish());
    return text + stop_.finish();
  }
  // Whether a stop word ended the text.
  bool stopped() const { return stop_.found(); }

 private:
  StreamDecoder decoder_;
  StopText stop_;
};

}  // namespace tenon
