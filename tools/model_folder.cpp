// SPDX-License-Identifier: Apache-2.0
#include "tools/model_folder.h"

#include <algorithm>
#include <string_view>

#include "core/folders.h"
#include "core/output.h"
#include "core/weight_files.h"
#include "models/stored_weights.h"
#include "text/chat/template_source.h"
#include "tools/command.h"
#include "train/budget.h"
#include "train/model_card.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// What a model's folder consists of: --force removes a folder with nothing else in it.
bool is_model_file(const fs::path& path) {
  const std::string name = path.filename().string();
  const std::string extension = path.extension().string();
  if (files::is_folder(path) && name == kAdditionalTemplates) {
    const std::vector<fs::path> inside = files::list(path);
    return std::all_of(inside.begin(), inside.end(),
                       [](const fs::path& one) { return one.extension() == ".jinja"; });
  }
  if (!files::is_file(path)) return false;
  if (extension == ".safetensors") return name.starts_with("model");
  return name == kModelCard || extension == ".json" || extension == ".txt" ||
         extension == ".model" || extension == ".jinja";
}

}  // namespace

void add_model_out(const Flags& flags, ModelOut& out) {
  out.shard_bytes = kShardBytes;
  flags.word("--out", out.folder, "Folder of the new model", Flags::kRequired);
  flags.read(
      "--max-shard-size",
      [&out](const std::string& word) { out.shard_bytes = parse_bytes("--max-shard-size", word); },
      "Largest file of weights before they are cut in shards, such as 5GB or 512MiB [5GB]");
  flags.flag("--force", out.force, "Overwrite the model that is there");
}

void check_model_out(const ModelOut& out, const std::vector<fs::path>& inputs) {
  check_output_folder({.flag = "--out", .path = out.folder, .force = out.force, .inputs = inputs},
                      "model", is_model_file);
}

void write_model_out(const ModelOut& out, const std::function<void(const fs::path&)>& fill) {
  warn_of_leftover(put_folder(out.folder, fill));
}

TensorToWrite as_stored(const TensorEntry& entry) {
  const auto make = [entry] {
    const std::shared_ptr<const void> owner(entry.data,
                                            [entry](const void*) { release_pages(entry); });
    return Tensor::borrow(entry.data, {entry.bytes}, DType::kU8, owner);
  };
  return {entry.name, DType::kU8, entry.shape, nullptr, make, entry.dtype_name};
}

}  // namespace tenon
