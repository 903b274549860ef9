// SPDX-License-Identifier: Apache-2.0
// tenon convert: any checkpoint that Tenon reads becomes safetensors, in another dtype if asked. It
// looks at names and bytes alone, so the model's family need not be one that Tenon knows.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/files.h"
#include "core/parallel_for.h"
#include "core/weight_files.h"
#include "models/quantized_files.h"
#include "models/stored_weights.h"
#include "models/weight_check.h"
#include "models/weights.h"
#include "tools/command.h"
#include "tools/model_folder.h"
#include "train/model_card.h"
#include "train/model_files.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions {
  std::string model, dtype;  // dtype: "" keeps each tensor's own
  ModelOut out;
  int threads = 0;
};

// The stored bytes as they are.
TensorToWrite as_dtype(const TensorEntry& entry, DType dtype) {
  const auto make = [entry, dtype] {
    const Tensor wide = own(entry, {entry.elements()}, DType::kF32);
    release_pages(entry);
    return cast(wide, dtype, MemoryKind::kWorkspace);
  };
  return {entry.name, dtype, entry.shape, nullptr, make};
}

// Integers and masks stay as they are; floats that are no DType cannot be cast.
TensorToWrite converted(const TensorEntry& entry, const std::optional<DType>& dtype) {
  if (dtype && !entry.dtype && entry.dtype_name.starts_with('F')) {
    fail_input("{} tensor \"{}\": expected F32, F16 or BF16 for --dtype {}, got {}",
               shown(entry.file->path()), printable(entry.name), name_of(*dtype), entry.dtype_name);
  }
  const bool casts = dtype && !is_quantized_part(entry.name) && entry.dtype &&
                     is_float(*entry.dtype) && *entry.dtype != *dtype;
  TensorToWrite tensor = casts ? as_dtype(entry, *dtype) : as_stored(entry);
  tensor.any_number = is_buffer(entry.name);  // a mask may hold -inf
  tensor.origin = [entry, to = casts ? *dtype : DType::kF32](int64_t index) {
    return origin_text(entry, index, to);
  };
  return tensor;
}

// True when the head repeats the embedding and loading ties them anyway. Where config.json is
// silent, the default of the family decides: a .bin in which the two share their bytes was saved by
// a model that had tied them.
bool is_tied_head(const WeightFiles& files, const TensorEntry& head, const JsonObject& config) {
  const bool stated = config.has("tie_word_embeddings");
  if (head.name != "lm_head.weight" || (stated && !config.boolean("tie_word_embeddings")))
    return false;
  for (const TensorFile& file : files.files()) {
    for (const TensorEntry& other : file.entries()) {
      if (&other == &head || other.dtype_name != head.dtype_name || other.shape != head.shape)
        continue;
      if (other.data == head.data) return true;
      const auto bytes = static_cast<size_t>(head.bytes);
      if (stated && std::memcmp(other.data, head.data, bytes) == 0) return true;
    }
  }
  return false;
}

// The model's own card, or that of a copy.
void write_card(const fs::path& model, const std::optional<DType>& dtype, const fs::path& folder) {
  if (files::exists(model / kModelCard)) return copy_files({model / kModelCard}, model, folder);
  write_model_card(
      {.base = model.string(),
       .adapter = false,
       .chat = model_template(model).has_value(),
       .tags = {"converted", "tenon"},
       .summary = fmt::format("The same weights in safetensors, {}, by `tenon convert`.",
                              dtype ? name_of(*dtype) : "as they were stored")},
      folder);
}

int convert(const ConvertOptions& options) {
  if (options.threads > 0) set_thread_count(options.threads);
  const fs::path model = options.model;
  std::optional<DType> dtype;
  if (!options.dtype.empty()) dtype = parse_dtype(options.dtype, "--dtype");
  check_model_out(options.out, {model});
  const JsonObject config = JsonObject::read(model / "config.json");
  const WeightFiles files = WeightFiles::open(model);
  std::vector<TensorToWrite> tensors;
  int64_t bytes = 0;
  for (const TensorFile& file : files.files()) {
    for (const TensorEntry& entry : file.entries()) {
      if (is_tied_head(files, entry, config)) continue;
      tensors.push_back(converted(entry, dtype));
      bytes += tensors.back().bytes();
    }
  }
  std::vector<WrittenFile> written;
  write_model_out(options.out, [&](const fs::path& folder) {
    if (const int64_t left = free_bytes(folder); left >= 0 && left < bytes) {
      fail(Exit::kIo, "--out {}: no space left: needed {} bytes, {} free", options.out.folder,
           bytes, left);
    }
    copy_files(model_files(model), model, folder);
    write_card(model, dtype, folder);
    if (dtype) {
      nlohmann::ordered_json stated = read_config(model);
      if (state_dtype(stated, *dtype))
        write_text_atomic(folder / "config.json", stated.dump(2) + "\n");
    }
    written = write_sharded(folder, tensors, options.out.shard_bytes);
  });
  for (const std::string& note : files.notes()) std::fprintf(stderr, "note: %s\n", note.c_str());
  std::fprintf(stderr, "%s: %zu tensors, %lld bytes in %zu file%s, from %s\n",
               shown(options.out.folder).c_str(), tensors.size(), static_cast<long long>(bytes),
               written.size(), written.size() == 1 ? "" : "s", shown(files.source()).c_str());
  return 0;
}

}  // namespace

Command add_convert(const Flags& program) {
  auto options = std::make_shared<ConvertOptions>();
  const Flags flags =
      program.command("convert", "Write a checkpoint (PyTorch .bin or safetensors) as safetensors");
  flags.word("--model", options->model, "Model folder with a config.json", Flags::kRequired);
  add_model_out(flags, options->out);
  flags.word("--dtype", options->dtype, "fp32, bf16 or fp16 (default: as stored)");
  add_threads(flags, options->threads);
  return {flags, [options] { return convert(*options); }};
}

}  // namespace tenon
