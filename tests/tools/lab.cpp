// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/lab.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <stdexcept>

namespace tenon::test {

namespace fs = std::filesystem;

Json tiny_config() {
  return {{"model_type", "gpt2"}, {"vocab_size", 539}, {"n_positions", 64}, {"n_embd", 32},
          {"n_head", 2},          {"n_layer", 2},      {"bos_token_id", 0}, {"eos_token_id", 0}};
}

Lab::Lab() {
  make_model("model", tiny_config());
  put("data.txt", sentences(120));
}

void Lab::put(const std::string& name, std::string_view bytes) const {
  fs::create_directories((folder_ / name).parent_path());
  put_file(folder_ / name, bytes);
}

std::string Lab::get(const std::string& name) const { return get_file(folder_ / name); }

void Lab::copy(const std::string& from, const std::string& to) const {
  fs::create_directories((folder_ / to).parent_path());
  fs::copy(folder_ / from, folder_ / to, fs::copy_options::recursive);
}

void Lab::make_model(const std::string& name, const Json& config, const Words& more) const {
  const fs::path source = folder_ / (name + "-source");
  fs::create_directories(source);
  put_file(source / "config.json", config.dump());
  fs::copy(TENON_SOURCE_DIR "/tests/reference/tokenizer/gpt2/tokenizer.json", source);
  Words words = {"init", "--config", (source / "config.json").string(), "--out", at(name)};
  words.insert(words.end(), more.begin(), more.end());
  const Result made = tenon(words);
  if (made.code != 0) throw std::runtime_error("tenon init: " + made.err);
  fs::remove_all(source);
}

void Lab::edit_tensors(const std::string& name,
                       const std::function<void(Json&, std::string&)>& edit) const {
  const std::string file = get(name);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  Json header = Json::parse(file.substr(8, length));
  std::string data = file.substr(8 + length);
  edit(header, data);
  const std::string text = header.dump();
  length = text.size();
  std::string edited(8, '\0');
  std::memcpy(edited.data(), &length, sizeof length);
  put(name, edited + text + data);
}

Words Lab::finetune(const Words& more) const {
  Words words = {"finetune", "--model", model(), "--data",    data(), "--out",
                 out(),      "--steps", "6",     "--batch",   "4",    "--seq-len",
                 "16",       "--rank",  "2",     "--threads", "1"};
  const size_t own = words.size();
  for (size_t i = 0; i < more.size(); ++i) {
    const auto end = words.begin() + static_cast<std::ptrdiff_t>(own);
    const auto there = std::find(words.begin(), end, more[i]);
    if (more[i].starts_with("--") && there != end) {
      *(there + 1) = more.at(++i);
    } else {
      words.push_back(more[i]);
    }
  }
  return words;
}

Words Lab::metrics(const std::string& column, const std::string& run) const {
  const auto cells = [](const std::string& line) {
    Words all = {""};
    for (const char c : line) c == ',' ? all.emplace_back() : all.back() += std::string(1, c);
    return all;
  };
  const Words rows = lines(get(run + "/metrics.csv"));
  const Words names = cells(rows.at(0));
  const auto at =
      static_cast<size_t>(std::find(names.begin(), names.end(), column) - names.begin());
  Words values;
  for (size_t i = 1; i < rows.size(); ++i) values.push_back(cells(rows[i]).at(at));
  return values;
}

namespace {

// What must not change: all, but for the lock and the cache of a run folder that was there before.
Listing kept_of(const Lab& lab) {
  Listing listing = list(lab.path());
  if (lab.has("run/config.yaml")) {
    std::erase_if(listing, [](const auto& entry) {
      return entry.first == "run/.lock" || entry.first.starts_with("run/cache/");
    });
  }
  return listing;
}

}  // namespace

void check_refused(const Lab& lab, const Words& words, const Words& parts, int code) {
  std::string command = "tenon";
  for (const std::string& word : words) command += " " + word;
  INFO(command);
  const Listing before = kept_of(lab);
  const Result result = tenon(words);
  INFO(result.err);
  CHECK(result.code == code);
  CHECK(result.out.empty());
  CHECK(lines(result.err).size() == 1);
  CHECK(result.err.starts_with("tenon: error: "));
  for (const std::string& part : parts) CHECK_THAT(result.err, Catch::Contains(part));
  CHECK(kept_of(lab) == before);
}

double loss_of(const Lab& lab, const Words& more) {
  Words words = {"evaluate", "--data", lab.data(), "--seq-len", "16", "--threads", "1"};
  words.insert(words.end(), more.begin(), more.end());
  const Result result = tenon(words);
  INFO(result.err);
  REQUIRE(result.code == 0);
  return Json::parse(result.out)["loss"].get<double>();
}

std::string sentences(int count) {
  constexpr const char* kWho[] = {"The miller", "A fox", "My sister", "The old king", "Nobody"};
  constexpr const char* kDoes[] = {"saw", "likes", "carried", "forgot"};
  constexpr const char* kWhat[] = {
      "the river", "three red doors",  "a violin",      "some bread and cheese",
      "the sea",   "an honest answer", "nothing at all"};
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += std::string(kWho[i % 5]) + " " + kDoes[i % 4] + " " + kWhat[i * 3 % 7] + ".\n";
  }
  return text;
}

}  // namespace tenon::test
