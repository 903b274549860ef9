// SPDX-License-Identifier: Apache-2.0
// tenon init: a model with random weights from a config.json, in Hugging Face layout. Training from
// scratch is this and `finetune --method full`.
#include <cstdio>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/folders.h"
#include "core/output.h"
#include "core/parallel_for.h"
#include "core/weight_files.h"
#include "models/weights.h"
#include "tools/command.h"
#include "tools/quantized_model.h"
#include "train/choices.h"
#include "train/model_files.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

struct InitOptions {
  std::string config, out, dtype = "fp32";
  uint64_t seed = 42;
  bool force = false;
  int threads = 0;
};

bool is_weights(const fs::path& path) {
  const std::string name = path.filename().string();
  const bool shard = name.starts_with("model-") && name.ends_with(".safetensors");
  return shard || name == "model.safetensors" || name == "model.safetensors.index.json";
}

// What --force keeps of the folder that it overwrites: all but the weights, shards included.
void carry_over(const fs::path& from, const fs::path& to, bool top) {
  for (const fs::path& path : files::list(from)) {
    const fs::path copy = to / path.filename();
    if (top && is_weights(path)) continue;
    if (!files::is_link(path) && files::is_folder(path)) {
      files::make_folders(copy);
      carry_over(path, copy, false);
    } else {
      files::link_or_copy(path, copy);
    }
  }
}

// Nothing that is there goes unless --force says so, and the config that is read stays in any case.
void check_out(const InitOptions& options, bool filled, bool in_place) {
  const fs::path out = options.out;
  const Output output{
      .flag = "--out", .path = out, .force = options.force, .inputs = {options.config}};
  if (!in_place) check_output_parts(output, {out / "config.json"});
  check_output_parts(output, {out / "model.safetensors", out / "model.safetensors.index.json"});
  if (filled && (!files::is_folder(out) || !options.force)) {
    fail_input("--out {}: exists and is not empty (--force overwrites its model)", shown(out));
  }
}

// The parameters as tensors of the model's files, each drawn when it is its turn.
std::vector<TensorToWrite> tensors_of(Model& model, uint64_t seed, DType dtype,
                                      Quantization quantization) {
  std::map<const Parameter*, const Linear*> linears;
  model.visit_linears([&](const std::string&, const Linear& linear) {
    if (quantization != Quantization::kNone) linears[&linear.weight] = &linear;
  });
  const QuantizedWriter writer(quantization);
  std::vector<TensorToWrite> tensors;
  for (const InitialValues& values : initial_values(model, seed)) {
    const Shape shape = values.parameter->shape;
    const auto linear = linears.find(values.parameter);
    if (linear == linears.end()) {
      std::vector<int64_t> dims;
      for (int axis = 0; axis < shape.rank(); ++axis) dims.push_back(shape[axis]);
      const auto make = [read = values.read, shape, dtype] {
        return read_as(read, shape, dtype, MemoryKind::kWorkspace);
      };
      tensors.push_back({values.path, dtype, dims, nullptr, make});
      continue;
    }
    const int64_t in = linear->second->in(), out = linear->second->out();
    // What is quantized lies (out, in).
    ElementReader rows = values.read;
    if (linear->second->layout == WeightLayout::kInOut) {
      rows = [read = values.read, in, out](int64_t begin, int64_t count, float* to) {
        for (int64_t i = begin; i < begin + count; ++i) read(i % in * out + i / in, 1, to++);
      };
    }
    const auto make = [=, path = values.path] {
      return quantized(quantization, {out, in}, dtype, rows, path);
    };
    for (TensorToWrite& tensor : writer.tensors(values.path, {out, in}, dtype, make))
      tensors.push_back(std::move(tensor));
  }
  return tensors;
}

int init(const InitOptions& options) {
  if (options.threads > 0) set_thread_count(options.threads);
  const Quantization quantization =
      named(kQuantizations, options.dtype).value_or(Quantization::kNone);
  const bool dense = quantization == Quantization::kNone;
  const DType dtype = dense ? parse_dtype(options.dtype, "--dtype") : DType::kBF16;
  const fs::path config = options.config, out = options.out;
  const std::unique_ptr<Model> model = build_model(parse_json_file(config), shown(config));
  const fs::path source = config.has_parent_path() ? config.parent_path() : fs::path(".");
  const bool filled = files::exists(out) ? !files::is_folder(out) || !files::list(out).empty()
                                         : files::is_link(out);
  const bool in_place = files::same(source, out) && config.filename() == "config.json";
  check_out(options, filled, in_place);
  warn_of_leftover(put_folder(out, [&](const fs::path& folder) {
    if (filled) carry_over(out, folder, true);
    // The config's folder may hold the tokenizer: a model that can be trained at once.
    if (!files::same(source, out)) copy_files(model_files(source), source, folder);
    if (config.filename() != "config.json")
      write_text_atomic(folder / "config.json", read_text(config, kJsonFileBytes));
    if (!dense) {
      OrderedJson stated = read_config(folder);
      state_quantization(stated, quantization, dtype);
      write_text_atomic(folder / "config.json", stated.dump(2) + "\n");
    }
    write_sharded(folder, tensors_of(*model, options.seed, dtype, quantization));
  }));
  const int64_t count = count_parameters(*model, [](const Parameter&) { return true; });
  std::fprintf(stderr, "%s: %s with %lld parameters in %s, seed %llu\n", shown(out).c_str(),
               model->family(), static_cast<long long>(count), options.dtype.c_str(),
               static_cast<unsigned long long>(options.seed));
  return 0;
}

}  // namespace

Command add_init(const Flags& program) {
  auto options = std::make_shared<InitOptions>();
  const Flags flags =
      program.command("init", "Make a model with random weights from a config.json");
  flags.word("--config", options->config, "config.json in Hugging Face layout", Flags::kRequired);
  flags.word("--out", options->out,
             "Folder of the new model; tokenizer files beside the config come along",
             Flags::kRequired);
  flags.word("--dtype", options->dtype,
             "fp32, bf16, fp16; or nf4 or int8: linear layers so, the rest in bf16");
  flags.number<uint64_t>("--seed", options->seed, 0, std::numeric_limits<int64_t>::max(),
                         "Seed of the weights");
  flags.flag("--force", options->force, "Overwrite what is there");
  add_threads(flags, options->threads);
  return {flags, [options] { return init(*options); }};
}

}  // namespace tenon
