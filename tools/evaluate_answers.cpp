// SPDX-License-Identifier: Apache-2.0
// The answers of a model to the prompts of a data set, and how near they come to the references.
#include <algorithm>
#include <filesystem>

#include "core/file.h"
#include "core/folders.h"
#include "core/output.h"
#include "text/data/document_tokens.h"
#include "tools/evaluate.h"
#include "train/data.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// A record, cut before the last piece that the model is to say.
struct Question {
  std::vector<int32_t> ids;
  std::string prompt, reference, place;
};

struct Answer {
  std::string text;
  std::string ended;  // "end": by an end token; "length": at --max-tokens; "context": no room left
  int64_t tokens = 0;
};

const char* name_of(StopReason reason) {
  return reason == StopReason::kEndToken      ? "end"
         : reason == StopReason::kContextFull ? "context"
                                              : "length";
}

// The names of special tokens: a chat template writes them into a reference, but no answer has
// them.
std::vector<std::string> special_names(const Tokenizer& tokenizer) {
  std::vector<std::string> names;
  for (int64_t id = 0; id < tokenizer.vocabulary_size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    if (tokenizer.is_special(token)) names.emplace_back(*tokenizer.token(token));
  }
  return names;
}

std::string without(std::string text, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (name.empty()) continue;
    for (size_t at = 0; (at = text.find(name, at)) != text.npos;) text.erase(at, name.size());
  }
  return text;
}

Question question_of(const Document& document, const Tokenizer& tokenizer,
                     const std::vector<std::string>& specials) {
  const auto& pieces = document.pieces;
  const auto scored = std::find_if(pieces.rbegin(), pieces.rend(),
                                   [](const DocumentPiece& piece) { return piece.scored; });
  const auto before = pieces.rend() - scored - 1;  // pieces in front of it
  if (scored == pieces.rend() || before == 0) {
    fail_input("{}: expected a prompt and its answer, got {}", document.place,
               scored == pieces.rend() ? "nothing that the model is to say" : "plain text");
  }
  Question question{.prompt = {}, .reference = scored->text, .place = document.place};
  if (!document.framed) question.reference = without(question.reference, specials);
  Document prompt = document;
  prompt.pieces.resize(static_cast<size_t>(before));
  for (const DocumentPiece& piece : prompt.pieces) question.prompt += piece.text;
  DocumentTokens tokens;
  tokenize_document(prompt, tokenizer, Framing::kPrefix, tokens);
  question.ids = std::move(tokens.ids);
  if (question.ids.empty() && tokenizer.bos_id()) question.ids.push_back(*tokenizer.bos_id());
  if (question.ids.empty()) fail_input("{}: expected a prompt, got no text", document.place);
  return question;
}

std::vector<Question> read_questions(const EvaluationSetting& setting) {
  const int64_t limit = setting.options.limit;
  const std::vector<std::string> specials = special_names(setting.tokenizer);
  const DataOptions& reading = setting.options.reading;
  const DocumentOptions options =
      tokenize_options(reading, setting.options.model, setting.options.adapter).documents;
  std::vector<Question> questions;
  int64_t overlong = 0, bad = 0;
  for (const std::string& path : setting.options.data) {
    const std::unique_ptr<DocumentReader> reader = open_documents(path, options);
    Document document;
    while ((limit == 0 || static_cast<int64_t>(questions.size()) < limit) &&
           reader->next(document)) {
      Question question = question_of(document, setting.tokenizer, specials);
      check_tokens(question.ids, setting.tokenizer, setting.rows, document.place);
      const auto length = static_cast<int64_t>(question.ids.size());
      if (length < setting.positions) {
        questions.push_back(std::move(question));
      } else if (reading.overlong == "drop") {
        ++overlong;
      } else {
        fail_input(
            "{}: a prompt of {} tokens, but the model has {} (--overlong drop leaves such prompts "
            "out)",
            document.place, length, setting.positions_text);
      }
    }
    bad += reader->skipped();
    if (bad > 0 && bad == reader->skipped()) setting.console.warning(reader->first_fault());
  }
  if (overlong + bad > 0) {
    setting.console.warning(fmt::format(
        "{} prompts left out that are too long, {} records that cannot be read", overlong, bad));
  }
  if (questions.empty()) {
    fail_input("{}: expected at least one prompt with its answer, got none",
               shown(setting.options.data[0]));
  }
  return questions;
}

// Asks all questions, those of one rank every `ranks`-th, round by round: no rank waits for another
// longer than a round takes. Every rank gets all answers, in order.
class Interview {
 public:
  Interview(const EvaluationSetting& setting, const std::vector<Question>& questions)
      : options_(setting.generation),
        tokenizer_(setting.tokenizer),
        world_(setting.world),
        console_(setting.console),
        questions_(questions) {}

  std::vector<Answer> hold(const Model& model, const std::string& name) {
    constexpr int64_t kBatches = 8;  // of a round: enough that its last texts do not tell
    const auto count = static_cast<int64_t>(questions_.size());
    const int64_t round = kBatches * options_.batch * world_.size();
    std::vector<Answer> answers(questions_.size());
    for (int64_t begin = 0; begin < count; begin += round)
      ask(model, name, begin, std::min(begin + round, count), answers);
    console_.finish();
    return answers;
  }

 private:
  void ask(const Model& model, const std::string& name, int64_t begin, int64_t end,
           std::vector<Answer>& answers) {
    std::vector<Prompt> prompts;
    for (int64_t i = begin + world_.rank(); i < end; i += world_.size())
      prompts.push_back({questions_[i].ids, static_cast<uint64_t>(i)});
    int64_t done = begin, tokens = 0;
    GenerationEvents events;
    events.on_done = [&](size_t, const Generated& text) {
      tokens += static_cast<int64_t>(text.ids.size());
      done = std::min(done + world_.size(), end);
      console_.progress(name, done, static_cast<int64_t>(questions_.size()),
                        fmt::format("{} tokens", tokens_ + tokens * world_.size()));
    };
    const std::vector<Generated> made = generate_batch(model, prompts, options_, events);
    nlohmann::json said = nlohmann::json::array();
    for (const Generated& text : made) {
      said.push_back({tokenizer_.decode(text.ids, true), name_of(text.reason), text.ids.size()});
    }
    const std::vector<std::string> all = world_.all_gather_text(said.dump());
    for (int rank = 0; rank < world_.size(); ++rank) {
      int64_t i = begin + rank;
      for (const nlohmann::json& one : nlohmann::json::parse(all[rank])) {
        answers[i] = {one[0], one[1], one[2]};
        tokens_ += answers[i].tokens;
        i += world_.size();
      }
    }
  }

  const GenerationOptions options_;
  const Tokenizer& tokenizer_;
  Communicator& world_;
  Console& console_;
  const std::vector<Question>& questions_;
  int64_t tokens_ = 0;
};

Figures sample_figures(const Answer& answer, const PairScores& scores) {
  return {{"answer", answer.text},          {"bleu", bleu(scores.bleu, true).score},
          {"rouge1", scores.rouge.rouge1},  {"rouge2", scores.rouge.rouge2},
          {"rougeL", scores.rouge.rouge_l}, {"rougeLsum", scores.rouge.rouge_lsum},
          {"exact", scores.exact},          {"tokens", answer.tokens},
          {"ended", answer.ended}};
}

// True for a file whose first line is one that Samples writes.
bool is_samples(const fs::path& path) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  const std::string_view text = file->text();
  const auto json = nlohmann::json::parse(text.substr(0, text.find('\n')), nullptr, false);
  return json.is_object() && json.contains("place") && json.contains("prompt") &&
         json.contains("reference");
}

void check_samples(const EvaluateOptions& options) {
  if (options.samples.empty()) return;
  Output output{.flag = "--samples", .path = options.samples, .force = options.force};
  output.inputs = {options.model, options.adapter, options.reading.chat_template};
  output.inputs.insert(output.inputs.end(), options.data.begin(), options.data.end());
  check_output_file(output, "file of samples", is_samples);
}

// The samples' file: a line a question, written anew after each model.
class Samples {
 public:
  Samples(const EvaluateOptions& options, const std::vector<Question>& questions)
      : path_(options.samples) {
    if (path_.empty()) return;
    remove_abandoned(path_);
    const AtomicFile probe(path_);  // a folder that takes no file is told before the work
    for (const Question& question : questions) {
      lines_.push_back({{"place", question.place},
                        {"prompt", question.prompt},
                        {"reference", question.reference}});
    }
  }

  // The answers of the one model, or of the adapter; those of the base stand in a field of their
  // own.
  void add(size_t index, const Figures& figures, bool base) {
    if (path_.empty()) return;
    if (base) {
      lines_[index]["base"] = figures;
    } else {
      lines_[index].update(figures);
    }
  }

  void write() const {
    if (path_.empty()) return;
    AtomicFile file(path_);
    // What is no UTF-8 in a data file becomes U+FFFD.
    for (const Figures& line : lines_) {
      file.write(line.dump(-1, ' ', false, Figures::error_handler_t::replace) + "\n");
    }
    file.commit();
  }

 private:
  fs::path path_;
  std::vector<Figures> lines_;
};

}  // namespace

EvaluationTask answer_task(const EvaluationSetting& setting) {
  if (setting.world.rank() == 0) check_samples(setting.options);
  const auto questions = std::make_shared<const std::vector<Question>>(read_questions(setting));
  const bool speaks = setting.world.rank() == 0;
  const auto samples = speaks ? std::make_shared<Samples>(setting.options, *questions) : nullptr;
  return [setting, questions, samples](const Model& model, const std::string& name) -> Figures {
    const std::vector<Answer> answers = Interview(setting, *questions).hold(model, name);
    if (samples == nullptr) return {};
    ScoreSums sums;
    int64_t tokens = 0;
    Figures ended{{"end", 0}, {"length", 0}, {"context", 0}};
    for (size_t i = 0; i < answers.size(); ++i) {
      const Question& question = (*questions)[i];
      try {
        const PairScores scores = score_pair(answers[i].text, question.reference);
        sums.add(scores);
        samples->add(i, sample_figures(answers[i], scores), name == "base");
      } catch (const Error& e) {
        fail(e.code(), "{}: {}", question.place, e.what());
      }
      tokens += answers[i].tokens;
      ended[answers[i].ended] = ended[answers[i].ended].get<int64_t>() + 1;
    }
    samples->write();
    warn_of_wordless(sums, setting.console);
    Figures figures = score_figures(sums);
    figures["generated_tokens"] = tokens;
    figures["ended"] = ended;
    return figures;
  };
}

}  // namespace tenon
