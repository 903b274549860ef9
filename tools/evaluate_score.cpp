// SPDX-License-Identifier: Apache-2.0
// Scores as they are printed, and those of a file of pairs.
#include "core/file.h"
#include "core/json.h"
#include "tools/evaluate.h"
#include "tools/version.h"

namespace tenon {

Figures score_figures(const ScoreSums& sums) {
  const Bleu corpus = bleu(sums.bleu, false);
  const RougeScores rouge = sums.mean_rouge();
  return {{"pairs", sums.pairs},
          {"bleu", corpus.score},
          {"bleu_signature", bleu_signature(version_number())},
          {"bleu_precisions", corpus.precisions},
          {"brevity_penalty", corpus.brevity_penalty},
          {"hypothesis_words", sums.bleu.hypothesis_words},
          {"reference_words", sums.bleu.reference_words},
          {"rouge1", rouge.rouge1},
          {"rouge2", rouge.rouge2},
          {"rougeL", rouge.rouge_l},
          {"rougeLsum", rouge.rouge_lsum},
          {"exact_match", sums.exact_share()}};
}

void warn_of_wordless(const ScoreSums& sums, Console& console) {
  if (sums.wordless == 0) return;
  console.warning(
      fmt::format("{} of {} references have no letter a-z and no digit: ROUGE counts them as empty",
                  sums.wordless, sums.pairs));
}

Figures score_file(const std::string& path, Console& console) {
  const auto file = MappedFile::open(path);
  file->advise_sequential();
  const std::string_view text = file->text();
  ScoreSums sums;
  int64_t number = 1;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    const std::string where = fmt::format("{}: line {}", shown(path), number);
    if (line.find_first_not_of(" \t\r") != line.npos) {
      const JsonObject record(parse_json(line, where), where);
      const std::string hypothesis = record.text("hypothesis"),
                        reference = record.text("reference");
      try {
        sums.add(score_pair(hypothesis, reference));
      } catch (const Error& e) {
        fail(e.code(), "{}: {}", where, e.what());
      }
    }
    file->advise_done(static_cast<int64_t>(begin), static_cast<int64_t>(end - begin));
    begin = end + 1;
    console.progress("score", static_cast<int64_t>(std::min(begin, text.size())),
                     static_cast<int64_t>(text.size()), fmt::format("{} pairs", sums.pairs));
  }
  console.finish();
  if (sums.pairs == 0) {
    fail_input("{}: expected lines with \"hypothesis\" and \"reference\", got none", shown(path));
  }
  warn_of_wordless(sums, console);
  return score_figures(sums);
}

}  // namespace tenon
