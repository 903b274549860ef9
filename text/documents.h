// SPDX-License-Identifier: Apache-2.0
// The records of the files that people train on, one after the other, as pieces of text: which of
// them the model is to say, and which it is given. Formats and shapes are found by looking, or
// said; nothing here knows of tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/chat_template.h"

namespace tenon {

struct DocumentPiece {
  std::string text;
  bool scored = true;  // the model is to say it
};

// One record: a text, a prompt and its completion, or a conversation.
struct Document {
  std::vector<DocumentPiece> pieces;  // joined, the whole text; tokenized one by one
  std::string place;                  // "file:line" or "file: record N", for messages
  bool sample = false;  // a prompt and its answer: cut at the end where it is too long, never
                        // continued in another row
  bool framed = true;   // the tokenizer's own BOS and EOS belong around it; a chat template has
                        // written those that it wants
};

// How records become documents.
struct DocumentOptions {
  // text, prompt-completion, alpaca, chat, sharegpt, openorca, columns; "auto": by looking at the
  // first record.
  std::string format = "auto";
  // For "columns": which field is asked and which is answered, {"question", "answer"}.
  std::vector<std::string> columns;
  // Writes conversations; records without one are told so.
  std::shared_ptr<const ChatTemplate> chat_template;
  bool score_last_only = false;  // of a conversation's assistant turns the last alone is scored
  std::string system;            // a system message for conversations that have none; "": none
};

// A part of a file by its bytes: records that begin in [begin, end).
struct ByteRange {
  int64_t begin = 0, end = INT64_MAX;
};

class DocumentReader {
 public:
  virtual ~DocumentReader() = default;
  // The next document; false at the end. Throws Error(kInput) with file, line or byte.
  virtual bool next(Document& document) = 0;
  // What the file holds, for the log: "alpaca (instruction, input, output), jsonl".
  virtual std::string description() const = 0;
};

// Opens .txt, .jsonl, .json, .csv or .parquet, each also as .gz or .zst. A range is possible where
// records can be found from any byte: see can_split. Throws Error(kInput).
std::unique_ptr<DocumentReader> open_documents(const std::filesystem::path& path,
                                               const DocumentOptions& options,
                                               ByteRange range = {});

// True for files whose records are lines (.jsonl, not compressed).
bool can_split(const std::filesystem::path& path);

}  // namespace tenon
