// SPDX-License-Identifier: Apache-2.0
// Data files as ids. All threads of the caller's share of the machine encode; what comes out has
// the order of the files, and does not depend on how many threads or ranks there are. Memory is
// bounded whatever the files' size: by the longest stretch of a .txt without a safe cut, and by the
// largest record.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "text/data/document_tokens.h"
#include "text/data/text_check.h"
#include "text/data/token_file.h"

namespace tenon {

// A part of the data: some documents, or a stretch of a .txt.
struct EncodedPart {
  struct Run {
    int64_t count;  // of the ids
    bool scored;
    bool ends;  // the document, which is a sample or not
    bool sample;
  };
  std::vector<int32_t> ids;
  std::vector<Run> runs;               // none in a stretch of text
  bool text = false;                   // a stretch of text: the Joiner frames and cuts it
  bool ends_text = false;              // the last one of its file
  int32_t source = 0;                  // which file it is of
  TextFaults faults;                   // of a .txt, for a TextCheck
  int64_t skipped = 0;                 // records that could not be read
  int64_t unwritten = 0;               // turns of the assistant that a chat template left out
  std::map<int32_t, int64_t> special;  // the special tokens in its text and their counts; a
                                       // chat template's own are none
};

// Which part of all bytes a rank encodes.
struct Share {
  int rank = 0, size = 1;
};

// Hands the parts of this rank's share to `take`, one at a time. The parts of all ranks, by rank,
// are those of one rank. A .txt is shared at safe cuts, a .jsonl between lines; of any other file
// one rank encodes all. Throws Error(kInput) with file, line and column: the first error in the
// order of the data.
void encode_data(std::span<const std::filesystem::path> sources, const Tokenizer& tokenizer,
                 const TokenizeOptions& options, Framing framing, Share share,
                 const std::function<void(const EncodedPart&)>& take);

// Where documents go: ids that belong to the current one, and its end.
struct DocumentSink {
  std::function<void(std::span<const int32_t> ids, bool scored)> append;
  std::function<void(bool sample)> end_document;
};

// Puts documents together again from parts in their order. In a text each end-of-text token ends a
// document where the framing is that of training; else the text is one document.
class Joiner {
 public:
  Joiner(const Tokenizer& tokenizer, Framing framing, DocumentSink sink);
  void take(const EncodedPart& part);

 private:
  void take_text(std::span<const int32_t> ids);
  void end_text();
  void keep_tail(std::span<const int32_t> ids);

  const Tokenizer& tokenizer_;
  Framing framing_;
  DocumentSink sink_;
  bool inside_ = false;        // a document of text that has begun
  std::vector<int32_t> tail_;  // its last ids, as many as suffix() has
};

}  // namespace tenon
