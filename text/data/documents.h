// SPDX-License-Identifier: Apache-2.0
// The records of the files that people train on, one after the other, as pieces of text: which of
// them the model is to say, and which it is given. Formats and shapes are found by looking, or
// said; nothing here knows of tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "text/chat/chat_template.h"

namespace tenon {

struct DocumentPiece {
  std::string text;
  bool scored = true;   // the model is to say it
  bool people = false;  // people wrote it: special tokens that it names may be plain text
  bool apart = false;   // no token reaches over into it from the piece before
};

// One record: a text, a prompt and its completion, or a conversation.
struct Document {
  std::vector<DocumentPiece> pieces;  // joined, the whole text
  // The pieces are one text and tokenized as one, but for those that stand apart. Else each piece is
  // tokenized by itself.
  bool whole = false;
  std::string place;      // "file:line" or "file: row N", for messages
  bool sample = false;    // a prompt and its answer: cut at the end where it is too long, never
                          // continued in another row
  int64_t unwritten = 0;  // turns of the assistant that the chat template left out
  bool framed = true;     // the tokenizer's own BOS and EOS belong around it; a chat template has
                          // written those that it wants
};

// What of a prompt and its answer, or of a conversation, the model is to say.
enum class TrainOn {
  kAll,         // all that the assistant says
  kLast,        // the last turn of the assistant
  kEverything,  // prompts too
};

// How records become documents.
struct DocumentOptions {
  // One of document_formats(), or "auto": by looking at the first record that has a shape.
  std::string format = "auto";
  // For "columns": which field is asked and which is answered, {"question", "answer"}. A name that
  // no field has may be a path: "instances.0.output".
  std::vector<std::string> columns;
  // Writes conversations, and what is asked and answered; null: see document_shape.h.
  std::shared_ptr<const ChatTemplate> chat_template;
  TrainOn train_on = TrainOn::kAll;
  // Conversations end with the last of the answers that are to be learnt, and before it stands what
  // a model is asked for it with, as with add_generation_prompt.
  bool questions = false;
  std::string system;     // a system message for conversations that have none; "": none
  bool skip_bad = false;  // records that cannot be read are counted, not an error
  // Told what a person should know of the data and nothing else says; may be empty.
  std::function<void(const std::string&)> note;
};

// The names that `format` may have beside "auto".
const std::vector<std::string>& document_formats();

// A part of a file by its bytes: records that begin in [begin, end).
struct ByteRange {
  int64_t begin = 0, end = INT64_MAX;
};

class DocumentReader {
 public:
  virtual ~DocumentReader() = default;
  // The next document; false at the end. Throws Error(kInput) with file, line or byte and the
  // record's first 80 characters.
  virtual bool next(Document& document) = 0;
  // What the file holds, for the log: "alpaca (instruction, input, output) in .json, with the
  // chat template chatml".
  virtual const std::string& description() const = 0;
  // The records that were passed over so far, and what was wrong with the first of them.
  virtual int64_t skipped() const = 0;
  virtual const std::string& first_fault() const = 0;
  // Fields that say something and are not read, of the first hundred records that this one read.
  virtual const std::vector<std::string>& unread_fields() const = 0;
};

// Opens .txt, .jsonl, .json, .csv or .parquet, each also as .gz or .zst. A .txt is one document,
// held as a whole (at most 1 GiB; whoever can cut it reads its bytes: see byte_source.h). A range
// is possible where records can be found from any byte: see can_split. Throws Error(kInput).
std::unique_ptr<DocumentReader> open_documents(const std::filesystem::path& path,
                                               const DocumentOptions& options,
                                               ByteRange range = {});

// True for .txt, packed or not.
bool is_plain_text(const std::filesystem::path& path);
// True for files whose records are lines (.jsonl, not compressed).
bool can_split(const std::filesystem::path& path);

}  // namespace tenon
