// SPDX-License-Identifier: Apache-2.0
#include "tools/model_folder.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "core/file.h"
#include "core/weight_files.h"
#include "text/chat/template_source.h"
#include "tools/command.h"
#include "train/checkpoint.h"
#include "train/model_card.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// What a model's folder consists of: --force removes a folder with nothing else in it.
bool is_model_file(const fs::directory_entry& entry) {
  const std::string name = entry.path().filename().string();
  const std::string extension = entry.path().extension().string();
  if (entry.is_directory()) {
    return name == kAdditionalTemplates &&
           std::all_of(fs::directory_iterator(entry.path()), fs::directory_iterator(),
                       [&](const fs::directory_entry& one) { return is_model_file(one); });
  }
  if (!entry.is_regular_file()) return false;
  if (extension == ".safetensors") return name.starts_with("model");
  return name == kModelCard || extension == ".json" || extension == ".txt" ||
         extension == ".model" || extension == ".jinja";
}

}  // namespace

int64_t parse_bytes(const std::string& text, const std::string& flag) {
  struct Unit {
    std::string_view name;
    int64_t bytes;
  };
  constexpr Unit kUnits[] = {
      {"", 1},          {"KB", 1000},     {"MB", 1'000'000}, {"GB", 1'000'000'000},
      {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
  int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  for (const Unit& unit : kUnits) {
    int64_t bytes = 0;
    if (error == std::errc() && number > 0 && std::string_view(rest, end) == unit.name &&
        !__builtin_mul_overflow(number, unit.bytes, &bytes)) {
      return bytes;
    }
  }
  fail_input("{}: expected a size such as 5GB or 512MiB, got {}", flag, printable(text));
}

void add_model_out(CLI::App& app, ModelOut& out) {
  out.shard_bytes = kShardBytes;
  app.add_option("--out", out.folder, "Folder of the new model")->required();
  app.add_option_function<std::string>(
         "--max-shard-size",
         [&out](const std::string& text) {
           out.shard_bytes = parse_bytes(text, "--max-shard-size");
         },
         "Largest file of weights before they are cut in shards, such as 5GB or 512MiB [5GB]")
      ->type_name("");
  app.add_flag("--force", out.force, "Overwrite the model that is there");
}

void check_model_out(const ModelOut& out, const fs::path& source) {
  const fs::path folder = out.folder;
  if (!fs::exists(folder)) return;
  if (fs::exists(source) && fs::equivalent(folder, source)) {
    fail_input("--out {}: expected another folder than the model's own", shown(folder));
  }
  if (!fs::is_directory(folder))
    fail_input("--out {}: expected a folder, got a file", shown(folder));
  if (fs::is_empty(folder)) return;
  if (!out.force) {
    fail_input("--out {}: exists and is not empty (--force overwrites its model)", shown(folder));
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (is_model_file(entry)) continue;
    fail_input("--out {}: holds {}, which is no part of a model: --force overwrites models only",
               shown(folder), shown(entry.path().filename()));
  }
}

void write_model_out(const ModelOut& out, const std::function<void(const fs::path&)>& fill) {
  const fs::path folder = out.folder;
  std::error_code none;
  fs::create_directories(fs::absolute(folder).parent_path(), none);
  if (none) fail_input("--out {}: cannot be created: {}", shown(folder), none.message());
  replace_folder(folder, fill);
}

}  // namespace tenon
