// SPDX-License-Identifier: Apache-2.0
// The older form of a byte-level vocabulary: vocab.json ({token: id}) and merges.txt (a pair a
// line, by rank).
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "text/tokenizer/tokenizer_spec.h"

namespace tenon {
namespace {

constexpr int64_t kMaxMergesBytes = int64_t{256} << 20;

// The next line of `rest`, without its end ("\n" or "\r\n").
std::string_view take_line(std::string_view& rest) {
  const size_t newline = rest.find('\n');
  std::string_view line = rest.substr(0, newline);
  rest.remove_prefix(newline == std::string_view::npos ? rest.size() : newline + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

void read_vocabulary_and_merges(const std::filesystem::path& vocabulary,
                                const std::filesystem::path& merges, TokenizerSpec& spec) {
  spec.file = shown(vocabulary);
  spec.pre_tokenizer = {{.kind = PreTokenizerStep::kByteLevel}};
  spec.decoder = {{.kind = DecoderStep::kByteLevel}};
  add_vocabulary(parse_json_file(vocabulary, kLargeJsonFileBytes), spec.file, "", spec);
  const std::string text = read_text(merges, kMaxMergesBytes);
  std::string_view rest = text;
  for (int64_t line_number = 1; !rest.empty(); ++line_number) {
    const std::string_view line = take_line(rest);
    // Only the first line may be a comment: later ones that begin with '#' are merges of '#'.
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ');
    const bool pair = space != line.npos && space > 0 && space + 1 < line.size() &&
                      line.find(' ', space + 1) == line.npos;
    if (!pair) {
      fail_input("{}:{}: expected two tokens with one space between, got \"{}\"", shown(merges),
                 line_number, printable(line));
    }
    const auto missing =
        add_merge(std::string(line.substr(0, space)), std::string(line.substr(space + 1)), spec);
    if (missing) {
      fail_input("{}:{}: expected tokens of the vocabulary, got \"{}\" where \"{}\" is not in it",
                 shown(merges), line_number, printable(line), printable(*missing));
    }
  }
}

}  // namespace tenon
