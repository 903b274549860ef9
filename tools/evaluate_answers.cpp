// SPDX-License-Identifier: Apache-2.0
// The answers of a model to the prompts of a data set, and how near they come to the references.
#include <algorithm>
#include <filesystem>

#include "core/file.h"
#include "core/folders.h"
#include "core/output.h"
#include "text/data/document_tokens.h"
#include "text/tokenizer/stop_text.h"
#include "tools/evaluate.h"
#include "train/data.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// A record, cut before the last stretch that the model is to say.
struct Question {
  std::vector<int32_t> ids;
  std::string prompt, reference, place;
};

struct Answer {
  std::string text;
  std::string ended;  // "end": by an end token or text; "length": at --max-tokens; "context": no
                      // room left
  int64_t tokens = 0;
};

const char* name_of(StopReason reason) {
  return reason == StopReason::kEndToken || reason == StopReason::kTold ? "end"
         : reason == StopReason::kContextFull                           ? "context"
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

// What the model is to say in pieces [begin, end): of a conversation up to the end of what came with
// its message, for what the template writes behind it ends the answer.
std::string reference_of(const Document& document, size_t begin, size_t end) {
  const auto& pieces = document.pieces;
  size_t last = end;
  while (last > begin && !pieces[last - 1].people) --last;
  if (document.framed || last == begin) last = end;
  std::string text;
  for (size_t i = begin; i < last; ++i) text += pieces[i].text;
  return text;
}

Question question_of(const Document& document, const EvaluationSetting& setting,
                     const std::vector<std::string>& specials) {
  const auto& pieces = document.pieces;
  size_t end = pieces.size();
  while (end > 0 && !pieces[end - 1].scored) --end;
  size_t begin = end;  // pieces of a conversation that stand together are one answer
  while (begin > 0 && pieces[begin - 1].scored && (document.whole || begin == end)) --begin;
  if (begin == 0) {
    fail_input("{}: expected a prompt and its answer, got {}", document.place,
               end == 0 ? "nothing that the model is to say" : "plain text");
  }
  Question question{
      .prompt = {}, .reference = reference_of(document, begin, end), .place = document.place};
  if (!document.framed) question.reference = without(question.reference, specials);
  Document prompt = document;
  prompt.pieces.resize(begin);
  for (const DocumentPiece& piece : prompt.pieces) question.prompt += piece.text;
  DocumentTokens tokens;
  const Tokenizer& tokenizer = setting.tokenizer;
  tokenize_document(prompt, tokenizer, Framing::kPrefix, tokens,
                    setting.options.reading.special_in_text == "plain");
  question.ids = std::move(tokens.ids);
  if (question.ids.empty() && tokenizer.bos_id()) question.ids.push_back(*tokenizer.bos_id());
  if (question.ids.empty()) fail_input("{}: expected a prompt, got no text", document.place);
  return question;
}

std::vector<Question> read_questions(const EvaluationSetting& setting) {
  const int64_t limit = setting.options.limit;
  const std::vector<std::string> specials = special_names(setting.tokenizer);
  const DataOptions& reading = setting.options.reading;
  DocumentOptions options =
      tokenize_options(reading, setting.options.model, setting.options.adapter).documents;
  options.questions = true;
  std::vector<Question> questions;
  int64_t overlong = 0, bad = 0;
  for (const std::string& path : setting.options.data) {
    const std::unique_ptr<DocumentReader> reader = open_documents(path, options);
    Document document;
    while ((limit == 0 || static_cast<int64_t>(questions.size()) < limit) &&
           reader->next(document)) {
      Question question = question_of(document, setting, specials);
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
        stop_(setting.stop),
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
    std::vector<Speech> speeches;
    for (size_t i = 0; i < prompts.size(); ++i)
      speeches.push_back({StoppedDecoder(tokenizer_, stop_), {}});
    GenerationEvents events;
    events.on_token = [&](size_t i, int32_t id) {
      speeches[i].text += speeches[i].decoder.push(id);
      return !speeches[i].decoder.stopped();
    };
    events.on_done = [&](size_t, const Generated& text) {
      tokens += static_cast<int64_t>(text.ids.size());
      done = std::min(done + world_.size(), end);
      console_.progress(name, done, static_cast<int64_t>(questions_.size()),
                        fmt::format("{} tokens", tokens_ + tokens * world_.size()));
    };
    const std::vector<Generated> made = generate_batch(model, prompts, options_, events);
    nlohmann::json said = nlohmann::json::array();
    for (size_t i = 0; i < made.size(); ++i) {
      said.push_back({speeches[i].text + speeches[i].decoder.finish(), name_of(made[i].reason),
                      made[i].ids.size()});
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

  // An answer in the making.
  struct Speech {
    StoppedDecoder decoder;
    std::string text;
  };

  const GenerationOptions options_;
  const Tokenizer& tokenizer_;
  const std::vector<std::string> stop_;
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
