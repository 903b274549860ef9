// SPDX-License-Identifier: Apache-2.0
// tenon verify CASE_DIR...: this build against reference outputs: logits, loss, gradients, ten full
// and ten LoRA steps and a greedy continuation, each with its worst figure and the bound it must
// keep.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numbers>

#include "core/backend.h"
#include "core/file.h"
#include "core/files.h"
#include "core/parallel_for.h"
#include "models/adapter.h"
#include "models/dora.h"
#include "models/generate.h"
#include "models/open.h"
#include "tools/command.h"
#include "tools/verify_case.h"
#include "train/optimizer.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

struct VerifyOptions {
  std::vector<std::string> cases;
  std::string model;
  Compute compute;
  int threads = 0;
};

// What a careful implementation reaches in fp32; half-width activations round every intermediate
// result to 8 (bf16) or 11 (fp16) bits, and a trajectory of ten steps carries that on.
struct Tolerances {
  double logits, gradients, losses, finals;
};
Tolerances tolerances(const Case& c) {
  const bool half = c.precision != DType::kF32;
  Tolerances t = {2e-5, 1e-4, 2e-4, 5e-3};
  if (c.precision == DType::kBF16) t = {2e-2, 6e-2, 2e-2, 2e-1};
  if (c.precision == DType::kF16) t = {3e-3, 2e-2, 4e-3, 1e-1};
  if (half && c.has_kink) {
    // Rounded to u, a share of about 4 u of the activations falls on the other side of ReLU's kink
    // (errors of some u in values of a bell curve), and each of these terms of a gradient comes or
    // goes as a whole: by the root of that share. Twice that for a case of few tokens.
    t.gradients = 4 * std::sqrt(c.precision == DType::kBF16 ? 0x1p-8 : 0x1p-11);
  }
  return t;
}

// Adam's first steps follow the signs of the gradient. Noise of a share e of it turns a share e / pi
// of the signs, which leads the trajectory away by 2 sqrt(e / pi) of its length.
double loss_bound(const Case& c, const std::vector<double>& want) {
  const Tolerances t = tolerances(c);
  if (c.precision == DType::kF32 || !c.has_kink) return t.losses;
  const auto [least, most] = std::minmax_element(want.begin(), want.end());
  return t.losses + 2 * std::sqrt(t.gradients / std::numbers::pi) * (*most - *least);
}

// One case's figures: each is printed with its bound, and the case fails past any of them.
class Sheet {
 public:
  void figure(const std::string& what, double worst, double bound, const std::string& at = "") {
    const bool good = worst <= bound;  // a NaN is not
    failed_ |= !good;
    std::printf("  %-34s %.3e  bound %.1e  %s%s\n", what.c_str(), worst, bound,
                good ? "ok" : "FAILED", at.empty() ? "" : ("  (" + at + ")").c_str());
  }
  void exact(const std::string& what, bool same, const std::string& detail) {
    failed_ |= !same;
    std::printf("  %-34s %s%s\n", what.c_str(), same ? "ok" : "FAILED",
                detail.empty() ? "" : ("  (" + detail + ")").c_str());
  }
  void absent(const std::string& what) { std::printf("  %-34s not in this case\n", what.c_str()); }
  bool failed() const { return failed_; }

 private:
  bool failed_ = false;
};

// Half-width gradients of small magnitude would underflow: the loss is multiplied by this and the
// gradients divided.
double loss_scale(DType precision) { return precision == DType::kF16 ? 1024 : 1; }

// Loss, and gradients in the parameters' slots (times loss_scale).
double forward_backward(const Case& c, const Model& model, const CaseBatch& batch) {
  Tape tape;
  LossSum loss;
  {
    const Recording scope(tape);
    const double scale =
        loss_scale(c.precision) / static_cast<double>(std::max<int64_t>(batch.scored, 1));
    loss = linear_cross_entropy(forward(model, batch.context), model.head().value, batch.targets,
                                static_cast<float>(scale));
  }
  tape.backward(loss.losses);
  return loss.sum() / static_cast<double>(std::max<int64_t>(batch.scored, 1));
}

Tensor all_logits(const Model& model, const CaseBatch& batch) {
  return logits(forward(model, batch.context), model.head().value).to(Device::kCPU);
}

// The larger of two figures; a NaN stays.
double worse(double a, double b) { return std::isnan(a) || a >= b ? a : b; }

// The largest difference over the largest magnitude expected.
double worst_logit(const Tensor& got, const std::vector<float>& want) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    worst = worse(
        worst, std::fabs(static_cast<double>(got.data<float>()[i]) - static_cast<double>(want[i])));
    largest = std::max(largest, std::fabs(static_cast<double>(want[i])));
  }
  return worst / largest;
}

double norm_of(const std::vector<float>& values) {
  double sum = 0;
  for (const float v : values) sum += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(sum);
}

// |got * scale - want| / |want| in the Euclidean norm, where |want| counts as `least` at least; the
// absolute norm where that is 0.
double relative(const float* got, const std::vector<float>& want, double scale, double least) {
  double difference = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = static_cast<double>(got[i]) * scale - static_cast<double>(want[i]);
    difference += d * d;
  }
  const double norm = std::max(norm_of(want), least);
  return norm > 0 ? std::sqrt(difference) / norm : std::sqrt(difference);
}

// Compares the fp32 tensors that `pick` gives for each parameter with "<prefix><name>" and reports
// the worst.
void compare_all(const Case& c, Model& model, Sheet& sheet, const std::string& what,
                 const std::string& prefix, const std::string& name_prefix, double scale,
                 double bound, const std::function<Tensor(const Parameter&)>& pick) {
  double worst = -1;
  std::string at;
  int compared = 0, missing = 0;
  const auto for_each = [&](const auto& f) {
    model.visit_parameters([&](const std::string& path, Parameter& parameter) {
      if (!parameter.trainable) return;
      f(path, parameter, expected_values(c, prefix + name_prefix + path, parameter.shape.numel()));
    });
  };
  // The gradient of a bias of keys is 0 but for rounding, for it moves all scores of a query alike: a
  // tensor counts as having at least this share of the largest's norm.
  double largest = 0;
  for_each([&](const std::string&, Parameter&, const std::optional<std::vector<float>>& want) {
    if (want) largest = std::max(largest, norm_of(*want));
  });
  const double least = 1e-4 * largest;
  for_each([&](const std::string& path, Parameter& parameter,
               const std::optional<std::vector<float>>& want) {
    if (!want) {
      ++missing;
      return;
    }
    const Tensor got = pick(parameter).to(Device::kCPU);
    const double figure = relative(got.data<float>(), *want, scale, least);
    ++compared;
    const bool known_bad = std::isnan(worst);
    worst = worse(worst, figure);
    if (!known_bad && !(worst > figure)) at = path;
  });
  if (compared == 0) return sheet.absent(what);
  sheet.figure(what, worst, bound,
               fmt::format("{} tensors, worst {}{}", compared, at,
                           missing > 0 ? fmt::format("; {} not in this case", missing) : ""));
}

double worst_difference(const std::vector<double>& got, const std::vector<double>& want,
                        bool relative_to_want) {
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double scale = relative_to_want ? std::max(1e-12, std::fabs(want[i])) : 1;
    worst = worse(worst, i < got.size() ? std::fabs(got[i] - want[i]) / scale : NAN);
  }
  return worst;
}

// Trains the trainable parameters on the case's steps as reference/README.md says, and compares the
// trajectory.
void check_steps(const Case& c, Model& model, Sheet& sheet, const std::string& kind, double lr) {
  const std::vector<double> want = numbers(c.facts, kind + "_losses"),
                            want_norms = numbers(c.facts, kind + "_grad_norms");
  if (want.empty() || !c.steps) return sheet.absent(kind + " steps");
  Optimizer optimizer(model, {.weight_decay = 0.01, .decay_vectors = true});
  const double unscale = 1 / loss_scale(c.precision);
  std::vector<double> losses, norms;
  for (size_t s = 0; s < want.size(); ++s) {
    const Tensor ids = int_tensor(*c.steps, fmt::format("input_ids.{}", s));
    const Tensor labels = int_tensor(*c.steps, fmt::format("labels.{}", s));
    optimizer.zero_gradients();
    losses.push_back(forward_backward(c, model, make_batch(c, model, ids, labels)));
    norms.push_back(optimizer.step(lr, unscale, 1.0));
    update_norms(model);
  }
  const Tolerances t = tolerances(c);
  sheet.figure(fmt::format("{} {} losses", want.size(), kind),
               worst_difference(losses, want, false), loss_bound(c, want));
  if (!want_norms.empty()) {
    sheet.figure(fmt::format("{} {} gradient norms", want_norms.size(), kind),
                 worst_difference(norms, want_norms, true), 10 * t.gradients, "relative");
  }
}

enum class TrainedPart : uint8_t { kNothing, kBase, kAdapter };

std::unique_ptr<Model> load(const Case& c, TrainedPart trained) {
  Opening opening{.model = c.model,
                  .device = c.device,
                  .activations = c.precision,
                  .train_base = trained == TrainedPart::kBase,
                  .quantization = c.quantization};
  if (trained == TrainedPart::kAdapter)
    opening.adapt = [&](Model& model) { read_adapter(model, c.folder / "adapter", true); };
  return open_model(opening).model;
}

void check_base(const Case& c, Sheet& sheet) {
  const std::unique_ptr<Model> model = load(c, TrainedPart::kBase);
  const Tolerances t = tolerances(c);
  if (c.inputs) {
    const Tensor ids = int_tensor(*c.inputs, "input_ids"), labels = int_tensor(*c.inputs, "labels");
    const CaseBatch batch = make_batch(c, *model, ids, labels);
    const int64_t elements = ids.numel() * model->vocabulary();
    if (const auto want = expected_values(c, "logits", elements)) {
      sheet.figure("logits", worst_logit(all_logits(*model, batch), *want), t.logits,
                   "of their largest magnitude");
    } else {
      sheet.absent("logits");
    }
    const double loss = forward_backward(c, *model, batch);
    if (c.facts.has("loss")) {
      sheet.figure("loss", std::fabs(loss - c.facts.number("loss", -1e9, 1e9)), t.losses,
                   fmt::format("{:.6f}", loss));
    }
    if (c.facts.has("scored_tokens")) {
      sheet.exact("scored tokens",
                  batch.scored == c.facts.integer("scored_tokens", 0, int64_t{1} << 40), "");
    }
    const double unscale = 1 / loss_scale(c.precision);
    if (c.facts.has("grad_norm")) {
      const double want = c.facts.number("grad_norm", 0, 1e9);
      const double got = Optimizer(*model, {}).gradient_norm(unscale);
      sheet.figure("gradient norm", std::fabs(got - want) / want, t.gradients, "relative");
    }
    compare_all(c, *model, sheet, "gradients", "grad.", "", unscale, t.gradients,
                [](const Parameter& parameter) { return parameter.value.slot()->grad; });
  } else {
    sheet.absent("inputs");
  }
  check_steps(c, *model, sheet, "full", c.facts.number("full_lr", 0, 1, 1e-3));
}

void check_greedy(const Case& c, Sheet& sheet) {
  const std::vector<double> want = numbers(c.facts, "greedy_from_first_8_tokens_of_row_0");
  if (want.size() <= 8) return sheet.absent("greedy continuation");
  const std::unique_ptr<Model> model = load(c, TrainedPart::kNothing);
  std::vector<int32_t> ids;
  for (size_t i = 0; i < 8; ++i) {
    const bool valid = want[i] >= 0 && want[i] < static_cast<double>(model->vocabulary());
    if (!valid)
      c.facts.reject("greedy_from_first_8_tokens_of_row_0",
                     fmt::format("ids below {}", model->vocabulary()));
    ids.push_back(static_cast<int32_t>(want[i]));
  }
  generate(*model, ids, static_cast<int64_t>(want.size()) - 8, {}, {}, c.precision, 0);
  size_t same = 0;
  while (same < want.size() && same < ids.size() && ids[same] == static_cast<int32_t>(want[same]))
    ++same;
  const std::string detail = fmt::format("{} of {} tokens the same", same, want.size());
  if (c.precision == DType::kF32) {
    sheet.exact("greedy continuation", same == want.size(), detail);
  } else {
    std::printf("  %-34s %s (not required in %s)\n", "greedy continuation", detail.c_str(),
                name_of(c.precision));
  }
}

// Row 1 with its last nine positions padded: positions after the end see nothing of the text and
// are not scored.
void check_padding(const Case& c, Sheet& sheet) {
  if (!c.facts.has("loss_row1_last9_padded") || !c.inputs) return sheet.absent("loss with padding");
  const std::unique_ptr<Model> model = load(c, TrainedPart::kNothing);
  const Tensor ids = int_tensor(*c.inputs, "input_ids");
  Tensor labels = int_tensor(*c.inputs, "labels");
  const int64_t tokens = ids.dim(1);
  if (ids.dim(0) < 2 || labels.shape() != ids.shape())
    c.facts.reject("loss_row1_last9_padded", "inputs of two rows");
  for (int64_t t = std::max<int64_t>(0, tokens - 9); t < tokens; ++t)
    labels.data<int32_t>()[tokens + t] = -100;
  const CaseBatch batch = make_batch(c, *model, ids, labels);
  const LossSum loss =
      linear_cross_entropy(forward(*model, batch.context), model->head().value, batch.targets, 1);
  const double got = loss.sum() / static_cast<double>(loss.scored);
  sheet.figure("loss with padding",
               std::fabs(got - c.facts.number("loss_row1_last9_padded", -1e9, 1e9)),
               tolerances(c).losses);
}

void check_adapter(const Case& c, Sheet& sheet) {
  if (!files::exists(c.folder / "adapter")) return sheet.absent("adapter");
  const std::unique_ptr<Model> model = load(c, TrainedPart::kAdapter);
  const Tolerances t = tolerances(c);
  if (c.inputs) {
    const CaseBatch batch =
        make_batch(c, *model, int_tensor(*c.inputs, "input_ids"), int_tensor(*c.inputs, "labels"));
    if (const auto want =
            expected_values(c, "lora.logits", batch.context.ids.numel() * model->vocabulary())) {
      sheet.figure("lora logits", worst_logit(all_logits(*model, batch), *want), t.logits,
                   "of their largest magnitude");
    }
    const double loss = forward_backward(c, *model, batch);
    if (c.facts.has("lora_loss")) {
      sheet.figure("lora loss", std::fabs(loss - c.facts.number("lora_loss", -1e9, 1e9)), t.losses,
                   fmt::format("{:.6f}", loss));
    }
    compare_all(c, *model, sheet, "lora gradients", "lora.grad.", kPeftPrefix,
                1 / loss_scale(c.precision), t.gradients,
                [](const Parameter& parameter) { return parameter.value.slot()->grad; });
  }
  check_steps(c, *model, sheet, "lora", c.facts.number("lora_lr", 0, 1, 5e-3));
  compare_all(c, *model, sheet, "lora weights after the steps", "lora.final.", kPeftPrefix, 1,
              t.finals, [](const Parameter& parameter) { return parameter.value; });
}

bool verify_case(const fs::path& folder, const VerifyOptions& options, Device device) {
  Case c = open_case(folder, options.model, options.compute.dtype());
  c.device = device;
  c.quantization = options.compute.quantization();
  std::printf("%s (%s, %s)\n", shown(folder).c_str(), name_of(c.precision),
              device_text(device).c_str());
  Sheet sheet;
  check_base(c, sheet);
  check_greedy(c, sheet);
  check_padding(c, sheet);
  check_adapter(c, sheet);
  std::printf("%s %s\n", sheet.failed() ? "FAILED" : "passed", shown(folder).c_str());
  return !sheet.failed();
}

}  // namespace

Command add_verify(const Flags& program) {
  auto options = std::make_shared<VerifyOptions>();
  const Flags flags = program.command("verify", "Check this build against reference outputs");
  flags.words("cases", options->cases, "Case folders (model/, adapter/, inputs, steps, expected)",
              Flags::kRequired);
  flags.word("--model", options->model, "A model folder from elsewhere instead of the case's own");
  add_compute(flags, options->compute);
  add_threads(flags, options->threads);
  return {flags, [options] {
            if (options->threads > 0) set_thread_count(options->threads);
            const Device device = options->compute.open();
            bool good = true;
            for (const std::string& folder : options->cases)
              good &= verify_case(folder, *options, device);
            return good ? 0 : static_cast<int>(Exit::kNumeric);
          }};
}

}  // namespace tenon
