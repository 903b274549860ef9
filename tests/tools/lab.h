// SPDX-License-Identifier: Apache-2.0
// A folder with a tiny model, made by `tenon init`, and a text to train it on.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/core/temp_folder.h"
#include "tests/tools/program.h"

namespace tenon::test {

using Json = nlohmann::ordered_json;

// What a test may change about the model: 2 blocks, 32 wide, 64 positions, 539 entries.
Json tiny_config();

class Lab {
 public:
  Lab();

  // The path of `name` in the folder.
  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  std::string model() const { return at("model"); }
  std::string data() const { return at("data.txt"); }
  std::string out() const { return at("run"); }
  const std::filesystem::path& path() const { return folder_.path(); }

  void put(const std::string& name, std::string_view bytes) const;
  std::string get(const std::string& name) const;
  void copy(const std::string& from, const std::string& to) const;
  bool has(const std::string& name) const { return std::filesystem::exists(folder_ / name); }

  // A model folder of this config with the tokenizer of tests/reference.
  void make_model(const std::string& name, const Json& config, const Words& more = {}) const;
  // Rewrites a safetensors file after `edit` has changed its header and data.
  void edit_tensors(const std::string& name,
                    const std::function<void(Json& header, std::string& data)>& edit) const;

  // finetune of the model on the data into out(), 1 thread, short sequences; then `more`,
  // whose flags take the place of those.
  Words finetune(const Words& more = {}) const;
  // The values of a column of run/metrics.csv.
  Words metrics(const std::string& column, const std::string& run = "run") const;

 private:
  TempFolder folder_;
};

// Checks that `words` are refused: this exit code, nothing on stdout, one line on stderr that holds
// every one of `parts`, and every file in the lab as it was.
void check_refused(const Lab& lab, const Words& words, const Words& parts, int code = 2);

// The loss that `evaluate` finds on the lab's data with `more`, which names the model.
double loss_of(const Lab& lab, const Words& more);

// `count` lines of plain sentences, always the same.
std::string sentences(int count);

}  // namespace tenon::test
