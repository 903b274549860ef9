// SPDX-License-Identifier: Apache-2.0
// Texts that a model goes on with, greedily: seconds a token, and how much of the machine's bandwidth
// the reading of the weights takes. The activations are fp32, --dtype is that of the weights.
#include <fmt/core.h>

#include <chrono>
#include <filesystem>
#include <set>

#include "bench/groups.h"
#include "bench/values.h"
#include "core/error.h"
#include "core/file.h"
#include "models/generate.h"
#include "models/open.h"

namespace tenon::bench {
namespace {

// From a Hugging Face folder, in the dtype that it has there, or with random weights of `dtype` from
// a config.json alone.
std::unique_ptr<Model> model_of(const Options& o, DType dtype) {
  Opening opening{.model = o.model,
                  .device = o.device,
                  .activations = o.device == Device::kCPU ? DType::kF32 : dtype};
  if (std::filesystem::is_regular_file(o.model)) opening.drawn = dtype;
  opening.check = [&](const Model& model) {
    if (o.prompt + o.tokens <= model.max_positions()) return;
    fail_input("--prompt and --tokens: {} tokens, but the model has {} positions",
               o.prompt + o.tokens, model.max_positions());
  };
  return open_model(opening).model;
}

// Bytes of weights that a step reads: all of them, but only rows of a table that is not the head.
double step_bytes(Model& model) {
  std::set<const void*> of_linears;
  model.visit_linears(
      [&](const std::string&, Linear& linear) { of_linears.insert(&linear.weight); });
  double bytes = 0;
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    const bool read =
        parameter.vector || of_linears.count(&parameter) > 0 || &parameter == &model.head();
    if (read) bytes += static_cast<double>(parameter.weight().bytes());
  });
  return bytes;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

void bench_decode(const Options& o, Report& report) {
  for (const DType dtype : o.dtypes) {
    const std::string size = fmt::format("{}x{}", o.texts, o.prompt);
    if (!o.wants(fmt::format("decode {} {}", size, name_of(dtype)))) continue;
    const std::unique_ptr<Model> model = model_of(o, dtype);
    std::vector<Prompt> prompts;
    for (int64_t i = 0; i < o.texts; ++i) {
      const Tensor ids = drawn_ids(o.prompt, model->vocabulary(), static_cast<uint32_t>(i + 1));
      prompts.push_back(
          {{ids.data<int32_t>(), ids.data<int32_t>() + o.prompt}, static_cast<uint64_t>(i)});
    }
    // The last text gets a token at the end of each step.
    std::vector<double> ends;
    GenerationEvents events;
    events.on_token = [&](size_t index, int32_t) {
      if (index + 1 == prompts.size()) ends.push_back(seconds_now());
      return true;
    };
    generate_batch(*model, prompts, {.max_tokens = o.tokens + 1, .batch = o.texts}, events);
    std::vector<double> steps;
    for (size_t i = 1; i < ends.size(); ++i) steps.push_back(ends[i] - ends[i - 1]);
    Line line{.group = "decode",
              .name = model->family(),
              .size = size,
              .dtype = model->head().value.dtype(),
              .time = spread_of(steps),
              .error = -1};
    line.work.bytes = step_bytes(*model);
    const double rate = static_cast<double>(o.texts) / line.time.median;
    line.note =
        fmt::format("{:.1f} tokens/s, {:.0f} MB of weights a step", rate, line.work.bytes * 1e-6);
    line.more = {{"model", o.model},          {"texts", o.texts},
                 {"prompt", o.prompt},        {"tokens", o.tokens},
                 {"tokens_per_second", rate}, {"weight_bytes", line.work.bytes}};
    report.add(line);
  }
}

}  // namespace tenon::bench
