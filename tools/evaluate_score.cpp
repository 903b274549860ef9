// SPDX-License-Identifier: Apache-2.0
// Scores as they are printed, and those of a file of pairs.
#include "core/file.h"
#include "core/json.h"
#include "text/data/record_reader.h"
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
  const std::unique_ptr<RecordReader> lines = read_lines(path, {});
  ScoreSums sums;
  Record line;
  while (lines->next(line)) {
    if (!line.fault.empty()) fail_input("{}", line.fault);
    const JsonObject pair(std::move(line.value), line.place);
    const std::string hypothesis = pair.text("hypothesis"), reference = pair.text("reference");
    try {
      sums.add(score_pair(hypothesis, reference));
    } catch (const Error& e) {
      fail(e.code(), "{}: {}", line.place, e.what());
    }
    console.progress("score", sums.pairs, 0, "pairs");
  }
  console.finish();
  if (sums.pairs == 0) {
    fail_input("{}: expected lines with \"hypothesis\" and \"reference\", got none", shown(path));
  }
  warn_of_wordless(sums, console);
  return score_figures(sums);
}

}  // namespace tenon
