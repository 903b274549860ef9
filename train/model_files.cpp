// SPDX-License-Identifier: Apache-2.0
#include "train/model_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/files.h"
#include "core/json.h"
#include "text/tokenizer/tokenizer_files.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kGeneration = "generation_config.json";
constexpr const char* kTokenizerConfig = "tokenizer_config.json";

OrderedJson read_object(const fs::path& path) {
  JsonObject::read(path);  // says what is wrong with it
  return OrderedJson::parse(read_text(path, kJsonFileBytes));
}

void write_object(const OrderedJson& object, const fs::path& path) {
  write_text_atomic(path, object.dump(2) + "\n");
}

// generation_config.json of the base, or what transformers makes of its config.json where it has
// none, with `end` among the tokens that end a text.
void write_generation_config(const fs::path& base, int32_t end, const fs::path& folder) {
  OrderedJson generation = OrderedJson::object();
  OrderedJson ends;
  if (files::exists(base / kGeneration)) generation = read_object(base / kGeneration);
  if (files::exists(base / "config.json")) {
    const OrderedJson config = read_object(base / "config.json");
    for (const char* name : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
      const bool stated = config.contains(name) && !config[name].is_null();
      if (!generation.contains(name) && stated) generation[name] = config[name];
    }
  }
  const OrderedJson stated = generation.value("eos_token_id", OrderedJson());
  if (stated.is_array()) {
    ends = stated;
  } else {
    ends = OrderedJson::array();
    if (!stated.is_null()) ends.push_back(stated);
  }
  const bool known = std::find(ends.begin(), ends.end(), OrderedJson(end)) != ends.end();
  if (known && files::exists(base / kGeneration))
    return copy_files({base / kGeneration}, base, folder);
  if (!known) ends.push_back(end);
  generation["eos_token_id"] = ends;
  write_object(generation, folder / kGeneration);
}

// A template that was given goes before the base's own wherever readers look.
void write_manner(const fs::path& base, const Manner& manner, const fs::path& folder) {
  if (manner.chat && (manner.given || !manner.chat->in_config))
    write_template(*manner.chat, folder);
  if (manner.chat && manner.given && files::exists(folder / kTokenizerConfig)) {
    OrderedJson config = read_object(folder / kTokenizerConfig);
    if (config.contains("chat_template")) {
      config["chat_template"] = manner.chat->main.text;
      write_object(config, folder / kTokenizerConfig);
    }
  }
  if (manner.end_of_turn) write_generation_config(base, *manner.end_of_turn, folder);
}

}  // namespace

std::vector<fs::path> model_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const char* name : {"config.json", kGeneration}) {
    if (files::exists(folder / name)) files.push_back(folder / name);
  }
  for (const auto& more : {tokenizer_files(folder), template_files(folder)})
    files.insert(files.end(), more.begin(), more.end());
  return files;
}

void copy_files(const std::vector<fs::path>& files, const fs::path& from, const fs::path& to) {
  files::make_folders(to);
  for (const fs::path& file : files) {
    const fs::path target = to / file.lexically_relative(from);
    files::make_folders(target.parent_path());
    write_text_atomic(target, MappedFile::open(file)->text());
  }
}

void write_model_files(const fs::path& base, const Manner& manner, const fs::path& folder) {
  std::vector<fs::path> files = model_files(base);
  if (manner.chat) {
    const std::vector<fs::path> own = template_files(base);
    std::erase_if(files, [&](const fs::path& file) {
      return std::find(own.begin(), own.end(), file) != own.end();
    });
  }
  copy_files(files, base, folder);
  write_manner(base, manner, folder);
}

void write_adapter_files(const fs::path& base, const Manner& manner, const fs::path& folder) {
  copy_files(tokenizer_files(base), base, folder);
  if (!manner.chat) copy_files(template_files(base), base, folder);
  write_manner(base, manner, folder);
}

}  // namespace tenon
