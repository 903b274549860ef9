// SPDX-License-Identifier: Apache-2.0
// How the options about data become what text/ is told, for every command that reads data; and what
// a person is shown of it.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "text/chat/template_source.h"
#include "text/data/packing.h"
#include "train/options.h"

namespace tenon {

// The template that writes conversations: the one that the options name, or else the adapter's own,
// or else the model's; nothing where they say "none" or there is none. `adapter` may be "".
std::optional<TemplateSource> template_source(const DataOptions& options,
                                              const std::filesystem::path& model,
                                              const std::filesystem::path& adapter = {});

// The same, ready to write; null for nothing. Throws Error(kInput) where it cannot be read.
std::shared_ptr<const ChatTemplate> chat_template(const DataOptions& options,
                                                  const std::filesystem::path& model,
                                                  const std::filesystem::path& adapter = {});

TokenizeOptions tokenize_options(const DataOptions& options, const std::filesystem::path& model,
                                 const std::filesystem::path& adapter = {});

// Identifies all that the tokens of data depend on beside the data and what the other options say:
// every file that the tokenizer is read from, the template's texts, and the day where one asks for
// it.
uint64_t template_fingerprint(const DataOptions& options, const std::filesystem::path& model,
                              const std::filesystem::path& adapter = {});

// Collective: where a template asks what day it is and the options do not say, all ranks are told
// rank 0's day; `earlier` goes before it where that is not "".
void settle_date(DataOptions& options, const std::filesystem::path& model,
                 const std::filesystem::path& adapter, Communicator& world,
                 const std::string& earlier = {});

// What the files hold, by their first records: "alpaca (instruction, input, output) in .json, ...";
// then describe_unread().
std::string describe_data(const std::vector<std::string>& files, const TokenizeOptions& options);

// "fields not read: id, source" where the first records have such fields; else "".
std::string describe_unread(const std::vector<std::string>& files, const TokenizeOptions& options);

// A document as the model is trained on it, special tokens included, with what is scored set apart:
// in green behind dim text, or with `colour` off between "[[" and "]]". Long stretches are shown by
// their ends; control characters are escaped.
std::string sample_text(const TokenFile& file, const DocumentSpan& document,
                        const Tokenizer& tokenizer, bool colour);

}  // namespace tenon
