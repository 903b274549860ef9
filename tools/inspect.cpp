// SPDX-License-Identifier: Apache-2.0
// tenon inspect PATH: what a file of tensors (safetensors, PyTorch's .bin), tokenizer, model, adapter,
// checkpoint, token file or run folder holds; exit 2 with the reason when it is not valid.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/file.h"
#include "core/files.h"
#include "core/weight_files.h"
#include "models/adapter_config.h"
#include "models/adapter_files.h"
#include "models/open.h"
#include "text/data/token_file.h"
#include "text/tokenizer/sentencepiece_model.h"
#include "text/tokenizer/sentencepiece_tokenizer.h"
#include "text/tokenizer/tokenizer.h"
#include "tools/command.h"
#include "train/checkpoint.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// What is found, line by line: it is printed when all of it is known to be good.
class Page {
 public:
  void line(const std::string& text) { text_ += text + "\n"; }
  void print() const { std::fputs(text_.c_str(), stdout); }

 private:
  std::string text_;
};

void list_tensors(Page& page, const std::vector<TensorEntry>& entries) {
  for (const TensorEntry& entry : entries) {
    page.line(fmt::format("  {:<60} {:<6} {}", printable(entry.name, 200), entry.dtype_name,
                          shape_text(entry)));
  }
}

void inspect_tensors(Page& page, const fs::path& path) {
  const TensorFile file = TensorFile::open(path);
  int64_t elements = 0;
  for (const TensorEntry& entry : file.entries()) elements += entry.elements();
  page.line(fmt::format("{}: {}, {} tensors, {} elements", shown(path),
                        has_torch_name(path) ? "PyTorch" : "safetensors", file.entries().size(),
                        elements));
  for (const auto& [key, value] : file.metadata())
    page.line(fmt::format("  metadata {} = {}", printable(key), printable(value)));
  list_tensors(page, file.entries());
}

void inspect_tokens(Page& page, const fs::path& path) {
  const TokenFile file = TokenFile::open(path);
  page.line(fmt::format("{}: token file, {} documents, {} tokens, {} scored, largest id {}",
                        shown(path), file.documents(), file.tokens(), file.scored_tokens(),
                        file.largest_id()));
}

// The files that a vocabulary is read from; the first that is there is the one that counts.
constexpr const char* kVocabularies[] = {"tokenizer.json", "vocab.json", "tokenizer.model"};

bool has_tokenizer(const fs::path& folder) {
  return std::any_of(std::begin(kVocabularies), std::end(kVocabularies),
                     [&](const char* name) { return files::exists(folder / name); });
}

// Weights want a config.json beside them, whatever else is there.
bool has_weights(const fs::path& folder) {
  const std::vector<fs::path> inside = files::list(folder);
  return std::any_of(inside.begin(), inside.end(), [](const fs::path& path) {
    return path.extension() == ".safetensors" || has_torch_name(path);
  });
}

std::string describe(const Tokenizer& tokenizer) {
  return fmt::format("tokenizer {}: {} entries, end of text {}", tokenizer.file(),
                     tokenizer.vocabulary_size(),
                     tokenizer.eos_id() ? std::to_string(*tokenizer.eos_id()) : "none");
}

// A tokenizer.model by itself, whatever lies beside it.
void inspect_sentencepiece(Page& page, const fs::path& path) {
  TokenizerSpec spec;
  read_sentencepiece(path, spec);
  const SentencePieceModel& model = *spec.sentencepiece;
  const auto tokenizer = make_sentencepiece_tokenizer(spec);
  page.line(fmt::format("{}: sentencepiece model, {}, {} pieces{}", shown(path),
                        model.algorithm == SentencePieceModel::kBpe ? "BPE" : "unigram",
                        tokenizer->vocabulary_size(),
                        model.byte_fallback ? ", bytes for what has no piece" : ""));
}

void inspect_file(Page& page, const fs::path& path) {
  const fs::path name = path.filename();
  if (path.extension() == ".tokens" || is_token_file(path)) {
    inspect_tokens(page, path);
  } else if (path.extension() == ".model") {
    inspect_sentencepiece(page, path);
  } else if (name == "tokenizer.json") {
    const fs::path folder = path.parent_path();
    page.line(describe(*Tokenizer::load(folder.empty() ? "." : folder)));
  } else {
    inspect_tensors(page, path);
  }
}

void inspect_model(Page& page, const fs::path& folder) {
  const auto [model, weights] = open_model({.model = folder});
  const int64_t count = count_parameters(*model, [](const Parameter&) { return true; });
  page.line(fmt::format("{}: {} model, {} parameters in {}, {} blocks, vocabulary {}, {} positions",
                        shown(folder), model->family(), count, name_of(weights.dtype),
                        model->blocks(), model->vocabulary(), model->max_positions()));
  page.line("  linear layers of block 0 (targets for --targets):");
  model->visit_linears([&](const std::string& path, Linear& linear) {
    if (path.find(".0.") == std::string::npos) return;
    page.line(fmt::format("  {} {} -> {}", path, linear.in(), linear.out()));
  });
  page.line("  " + (has_tokenizer(folder) ? describe(*Tokenizer::load(folder)) : "no tokenizer"));
}

std::string listed(const std::vector<std::string>& names, const std::string& pattern) {
  std::string text = pattern;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return printable(text, 300);
}

// What the options are beside rank, alpha and targets, one a line.
void list_extras(Page& page, const LoraOptions& o) {
  const auto extra = [&](const char* what, const std::string& text) {
    if (!text.empty()) page.line(fmt::format("  {}: {}", what, text));
  };
  extra("but not", listed(o.exclude, o.exclude_pattern));
  std::vector<std::string> words;
  for (const int64_t layer : o.layers) words.push_back(std::to_string(layer));
  extra("blocks", listed(words, ""));
  words.clear();
  for (const auto& [name, rank] : o.ranks) words.push_back(fmt::format("{} = {}", name, rank));
  extra("ranks", listed(words, ""));
  words.clear();
  for (const auto& [name, alpha] : o.alphas) words.push_back(fmt::format("{} = {}", name, alpha));
  extra("alphas", listed(words, ""));
  extra("trained whole", listed(o.modules_to_save, ""));
  if (o.bias != "none") extra("biases", o.bias);
  if (o.lora_bias) extra("bias of B", "yes");
}

void inspect_adapter(Page& page, const fs::path& folder, const std::string& base) {
  const AdapterConfig config = read_adapter_config(folder);
  const LoraOptions& o = config.options;
  const AdapterFile file = AdapterFile::open(folder);
  page.line(fmt::format("{}: {}{} adapter, rank {}, alpha {}, scale {:g}, dropout {}",
                        shown(folder), o.rslora ? "rs" : "", o.dora ? "DoRA" : "LoRA", o.rank,
                        o.alpha, lora_scale(o.alpha, o.rank, o.rslora), o.dropout));
  page.line(fmt::format("  base: {}", config.base.empty() ? "not named" : printable(config.base)));
  page.line(fmt::format("  targets: {}", listed(o.targets, o.target_pattern)));
  list_extras(page, o);
  page.line(fmt::format("  {} parameters in {} tensors", file.elements(), file.tensors().size()));
  if (has_tokenizer(folder)) page.line("  " + describe(*Tokenizer::load(folder)));
  if (base.empty()) {
    list_tensors(page, file.entries());
    return;
  }
  const auto [model, weights] = open_model({.model = base, .adapt = frozen_adapter(folder)});
  page.line(fmt::format("  fits {}:", shown(base)));
  model->visit_linears([&](const std::string& path, Linear& linear) {
    if (!linear.lora) return;
    page.line(fmt::format("  {:<60} rank {}, scale {:g}", path, linear.lora->a.shape[0],
                          static_cast<double>(linear.lora->scale)));
  });
}

void inspect_checkpoint(Page& page, const fs::path& folder) {
  const int64_t step = verify_checkpoint(folder);
  page.line(fmt::format("{}: checkpoint of step {}, complete", shown(folder), step));
  list_tensors(page, SafetensorsFile::open(folder / "state.safetensors").entries());
}

void inspect_run(Page& page, const fs::path& folder) {
  const Found found = newest_checkpoint(folder / "checkpoints");
  page.line(fmt::format(
      "{}: run folder, {}", shown(folder),
      found.folder ? fmt::format("newest good checkpoint {}", found.folder->filename().string())
                   : "no good checkpoint"));
  for (const std::string& why : found.rejected) page.line("  not good: " + why);
  for (const char* name : {"adapter", "adapter-best", "model", "model-best", "summary.json",
                           "metrics.csv", "ranks.csv"}) {
    if (files::exists(folder / name)) page.line(fmt::format("  {}", name));
  }
  if (files::exists(folder / "summary.json")) {
    std::istringstream summary(read_text(folder / "summary.json", kJsonFileBytes));
    parse_json(summary.view(), shown(folder / "summary.json"));
    for (std::string text; std::getline(summary, text);) page.line(printable(text, 1000));
  }
}

int inspect(const fs::path& path, const std::string& base) {
  Page page;
  if (!files::exists(path)) fail_input("{}: no such file or folder", shown(path));
  if (!base.empty() && !files::exists(path / "adapter_config.json"))
    fail_input("--model: goes with an adapter, which {} is not", shown(path));
  if (!files::is_folder(path)) {
    inspect_file(page, path);
  } else if (files::exists(path / "manifest.json")) {
    inspect_checkpoint(page, path);
  } else if (files::exists(path / "adapter_config.json")) {
    inspect_adapter(page, path, base);
  } else if (files::exists(path / "config.json")) {
    inspect_model(page, path);
  } else if (files::exists(path / "config.yaml")) {
    inspect_run(page, path);
  } else if (has_tokenizer(path) && !has_weights(path)) {
    page.line(shown(path) + ": " + describe(*Tokenizer::load(path)));
  } else {
    fail_input(
        "{}: expected a model, adapter, checkpoint, run or tokenizer folder (config.json, "
        "adapter_config.json, manifest.json, config.yaml, tokenizer.json or tokenizer.model)",
        shown(path));
  }
  page.print();
  return 0;
}

}  // namespace

Command add_inspect(const Flags& program) {
  struct Words {
    std::string path, base;
  };
  auto words = std::make_shared<Words>();
  const Flags flags =
      program.command("inspect", "What a file or folder of Tenon's holds, and whether it is valid");
  flags.word("path", words->path,
             "safetensors, .bin, token or tokenizer file; model, adapter, checkpoint, run or "
             "tokenizer folder",
             Flags::kRequired);
  flags.word("--model", words->base,
             "Model folder: whether an adapter fits it (exit code 2 if not)");
  return {flags, [words] { return inspect(words->path, words->base); }};
}

}  // namespace tenon
