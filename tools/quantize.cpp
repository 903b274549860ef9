// SPDX-License-Identifier: Apache-2.0
// tenon quantize: a model whose linear layers are in 4 bits or int8, in the layout of bitsandbytes,
// which transformers and PEFT open. Tensor by tensor: no more of the model is held at a time.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/parallel_for.h"
#include "core/weight_files.h"
#include "models/quantized_files.h"
#include "models/weights.h"
#include "tools/command.h"
#include "tools/model_folder.h"
#include "tools/quantized_model.h"
#include "train/choices.h"
#include "train/model_card.h"
#include "train/model_files.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

struct QuantizeOptions {
  std::string model, to = "nf4";
  bool double_quant = false;
  ModelOut out;
  int threads = 0;
};

int quantize(const QuantizeOptions& o) {
  if (o.threads > 0) set_thread_count(o.threads);
  const fs::path source = o.model;
  const Quantization to = quantization_of(o.to, o.double_quant);
  check_model_out(o.out, {source});
  nlohmann::ordered_json config = read_config(source);
  const std::unique_ptr<Model> model = build_model(o.model);
  const WeightFiles files = WeightFiles::open(source);
  const StoredWeights stored = StoredWeights::of(*model, files);
  if (!stored.conflicts.empty())
    fail_input("{}: {}", shown(files.source()), stored.conflicts.front());
  std::map<const TensorEntry*, const Linear*> linears;
  DType dtype = DType::kF32;
  model->visit_linears([&](const std::string& path, const Linear& linear) {
    const TensorEntry* entry = stored.find(path + ".weight");
    if (entry == nullptr) fail_input("{}: {}.weight is missing", shown(files.source()), path);
    if (stored_quantized(stored, path + ".weight"))
      fail_input("{}: {} is quantized already", shown(files.source()), path);
    if (!entry->dtype || !is_float(*entry->dtype) || !has_shape(*entry, linear.weight.shape)) {
      fail_input("{}: {}.weight is {} of {}, expected floats of {}", shown(files.source()), path,
                 shape_text(*entry), entry->dtype_name, linear.weight.shape.text());
    }
    dtype = *entry->dtype;
    linears[entry] = &linear;
  });
  state_quantization(config, to, dtype);

  const QuantizedWriter writer(to);
  std::vector<TensorToWrite> tensors;
  for (const TensorFile& file : files.files()) {
    for (const TensorEntry& entry : file.entries()) {
      const auto linear = linears.find(&entry);
      if (linear == linears.end()) {
        tensors.push_back(as_stored(entry));
        tensors.back().any_number = is_buffer(entry.name);
        continue;
      }
      const auto make = [to, &entry, &dense = *linear->second] {
        const Weight weight = quantized(to, entry, dense);
        release_pages(entry);
        return weight;
      };
      const Shape shape{linear->second->out(), linear->second->in()};
      for (TensorToWrite& tensor : writer.tensors(entry.name, shape, *entry.dtype, make))
        tensors.push_back(std::move(tensor));
    }
  }
  const std::string manner =
      o.to == "int8"
          ? "int8, with a scale for each row"
          : fmt::format("NF4, in blocks of 64{}", o.double_quant ? ", doubly quantized" : "");
  int64_t bytes = 0;
  for (const TensorToWrite& tensor : tensors) bytes += tensor.bytes();
  write_model_out(o.out, [&](const fs::path& folder) {
    copy_files(model_files(source), source, folder);
    write_model_card({.base = o.model,
                      .adapter = false,
                      .chat = model_template(source).has_value(),
                      .tags = {o.to == "int8" ? "8-bit" : "4-bit", "bitsandbytes", "tenon"},
                      .summary = fmt::format("Linear layers in {}, by `tenon quantize`.", manner)},
                     folder);
    write_text_atomic(folder / "config.json", config.dump(2) + "\n");
    write_sharded(folder, tensors, o.out.shard_bytes);
  });
  std::fprintf(stderr, "%s: %zu linear layers in %s, %lld bytes in all, from %s (%lld)\n",
               shown(o.out.folder).c_str(), linears.size(), o.to == "int8" ? "int8" : "4 bits",
               static_cast<long long>(bytes), shown(files.source()).c_str(),
               static_cast<long long>(files.total_bytes()));
  return 0;
}

}  // namespace

Command add_quantize(const Flags& program) {
  auto options = std::make_shared<QuantizeOptions>();
  const Flags flags = program.command(
      "quantize", "Write a model whose linear layers are in 4 bits or int8 (bitsandbytes' layout)");
  flags.word("--model", options->model, "Model folder", Flags::kRequired);
  add_model_out(flags, options->out);
  flags.choice("--to", options->to, {"nf4", "int8"}, "nf4");
  flags.flag("--double-quant", options->double_quant,
             "Quantize the scales of NF4's blocks too: 4.13 instead of 4.5 bits a weight");
  add_threads(flags, options->threads);
  return {flags, [options] { return quantize(*options); }};
}

}  // namespace tenon
