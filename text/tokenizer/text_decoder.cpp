// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/text_decoder.h"

#include <utility>

#include "text/tokenizer/byte_spelling.h"
#include "text/tokenizer/replace.h"
#include "text/tokenizer/split.h"
#include "text/utf8.h"

namespace tenon {
namespace {

constexpr char kReplacement[] = "\uFFFD";

// Moves the part of `pending` that will not change with what follows to the end of `out`.
void take_complete(std::string& pending, std::string& out) {
  const size_t complete = pending.size() - unfinished_utf8_tail(pending);
  append_valid_utf8(std::string_view(pending).substr(0, complete), out);
  pending.erase(0, complete);
}

class Utf8Decoder : public TextDecoder {
 public:
  explicit Utf8Decoder(TokenText bytes) : bytes_(std::move(bytes)) {}
  void push(int32_t id, std::string& out) override {
    pending_ += bytes_(id);
    take_complete(pending_, out);
  }
  void finish(std::string& out) override {
    append_valid_utf8(pending_, out);
    pending_.clear();
  }

 private:
  TokenText bytes_;
  std::string pending_;  // the unfinished character
};

// One step at work: takes tokens and gives others to the next. Behind a step that makes one token
// of all (ByteLevel, Fuse) what comes are parts of that token.
class Stage {
 public:
  virtual ~Stage() = default;
  virtual void take(std::string_view token) = 0;
  virtual void end() {}
  Stage* next = nullptr;
};

class Output : public Stage {
 public:
  void take(std::string_view token) override { out->append(token); }
  std::string* out = nullptr;
};

class Join : public Stage {
 public:
  void take(std::string_view token) override {
    if (!std::exchange(first_, false)) next->take(" ");
    next->take(token);
  }

 private:
  bool first_ = true;
};

class Fuse : public Stage {
 public:
  void take(std::string_view token) override { next->take(token); }
};

// Holds everything back for a step that wants a fused token as a whole.
class Gather : public Stage {
 public:
  void take(std::string_view token) override { all_ += token; }
  void end() override { next->take(all_); }

 private:
  std::string all_;
};

class ByteLevel : public Stage {
 public:
  void take(std::string_view token) override {
    static const ByteSpelling spelling;
    pending_ += spelling.bytes_of(token);
    std::string text;
    take_complete(pending_, text);
    next->take(text);
  }
  void end() override {
    std::string text;
    append_valid_utf8(pending_, text);
    next->take(text);
  }

 private:
  std::string pending_;
};

class Replace : public Stage {
 public:
  // `given`: what the chain was given so far, in bytes.
  Replace(const DecoderStep& step, const size_t& given)
      : pattern_(step.pattern), content_(step.content), place_(step.place), growth_(place_, given) {
    if (step.kind == DecoderStep::kReplaceRegex) {
      regex_ = std::make_unique<RegexSplitter>(step.place, step.pattern, SplitBehavior::kIsolated,
                                               false);
    }
  }
  void take(std::string_view token) override {
    next->take(regex_ ? replace_all(token, *regex_, content_, &growth_)
                      : replace_all(token, pattern_, content_, &growth_));
  }

 private:
  std::string pattern_, content_, place_;
  Growth growth_;
  std::unique_ptr<RegexSplitter> regex_;
};

class Metaspace : public Stage {
 public:
  explicit Metaspace(const DecoderStep& step)
      : replacement_(step.pattern), first_(step.drop_first) {}
  void take(std::string_view token) override {
    next->take(replace_all(token, replacement_, std::exchange(first_, false) ? "" : " "));
  }

 private:
  std::string replacement_;
  bool first_;
};

// A run of byte tokens is UTF-8 as a whole, or each of its bytes becomes U+FFFD: so it is held back
// to its end.
class ByteFallback : public Stage {
 public:
  void take(std::string_view token) override {
    if (const int byte = byte_of_token(token); byte >= 0) {
      run_ += static_cast<char>(byte);
      return;
    }
    end();
    next->take(token);
  }
  void end() override {
    if (valid_utf8_prefix(run_) == run_.size()) {
      if (!run_.empty()) next->take(run_);
    } else {
      for (size_t i = 0; i < run_.size(); ++i) next->take(kReplacement);
    }
    run_.clear();
  }

 private:
  std::string run_;
};

// Takes `content` away from both ends of a token. With `fused` what comes are parts of one token:
// then what may be its end is held back.
class Strip : public Stage {
 public:
  Strip(const DecoderStep& step, bool fused)
      : content_(step.content), left_(step.left), right_(step.right), fused_(fused) {}
  void take(std::string_view token) override {
    for (; to_drop_ > 0 && token.starts_with(content_); --to_drop_)
      token.remove_prefix(content_.size());
    if (!token.empty()) to_drop_ = 0;
    held_ += token;
    size_t trailing = 0;  // how often the content ends what is held
    std::string_view rest = held_;
    for (; trailing < right_ && rest.ends_with(content_); ++trailing)
      rest.remove_suffix(content_.size());
    next->take(rest);
    held_.erase(0, rest.size());
    if (!fused_) {
      held_.clear();
      to_drop_ = left_;
    }
  }

 private:
  std::string content_;
  size_t left_, right_;
  bool fused_;
  size_t to_drop_ = left_;  // of the token's beginning
  std::string held_;
};

class Chain : public TextDecoder {
 public:
  Chain(const std::vector<DecoderStep>& steps, TokenText text) : text_(std::move(text)) {
    bool fused = false, strips = false;  // strips: the fused token's one Strip is there
    for (const DecoderStep& step : steps) {
      if (fused && step.kind != DecoderStep::kFuse) {
        if (step.kind != DecoderStep::kStrip || strips) {
          add(std::make_unique<Gather>());
          fused = strips = false;
        }
        strips = step.kind == DecoderStep::kStrip;
      }
      add(stage_of(step, fused));
      fused |= step.kind == DecoderStep::kFuse || step.kind == DecoderStep::kByteLevel;
    }
    add(std::make_unique<Output>());
    output_ = static_cast<Output*>(stages_.back().get());
  }
  void push(int32_t id, std::string& out) override {
    output_->out = &out;
    const std::string_view text = text_(id);
    given_ += text.size();
    stages_[0]->take(text);
  }
  void finish(std::string& out) override {
    output_->out = &out;
    for (const auto& stage : stages_) stage->end();
  }

 private:
  std::unique_ptr<Stage> stage_of(const DecoderStep& step, bool fused) const {
    switch (step.kind) {
      case DecoderStep::kByteLevel: return std::make_unique<ByteLevel>();
      case DecoderStep::kReplace:
      case DecoderStep::kReplaceRegex: return std::make_unique<Replace>(step, given_);
      case DecoderStep::kByteFallback: return std::make_unique<ByteFallback>();
      case DecoderStep::kFuse: return std::make_unique<Fuse>();
      case DecoderStep::kStrip: return std::make_unique<Strip>(step, fused);
      case DecoderStep::kMetaspace: return std::make_unique<Metaspace>(step);
      case DecoderStep::kJoin: break;
    }
    return std::make_unique<Join>();
  }
  void add(std::unique_ptr<Stage> stage) {
    if (!stages_.empty()) stages_.back()->next = stage.get();
    stages_.push_back(std::move(stage));
  }

  TokenText text_;
  size_t given_ = 0;  // bytes of all tokens so far
  std::vector<std::unique_ptr<Stage>> stages_;
  Output* output_;
};

}  // namespace

std::unique_ptr<TextDecoder> make_utf8_decoder(TokenText bytes) {
  return std::make_unique<Utf8Decoder>(std::move(bytes));
}

int byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    byte = 16 * byte + digit;
  }
  return byte;
}

std::unique_ptr<TextDecoder> make_decoder_chain(const std::vector<DecoderStep>& steps,
                                                TokenText text) {
  return std::make_unique<Chain>(steps, std::move(text));
}

}  // namespace tenon
