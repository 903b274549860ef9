// SPDX-License-Identifier: Apache-2.0
// The head with its cross entropy, forward and backward, with a frozen head and with a trained one.
// The memory that counts is what the pass takes beyond its operands and the head's gradient.
#include <fmt/core.h>

#include <cmath>
#include <vector>

#include "bench/groups.h"
#include "bench/values.h"
#include "core/memory.h"
#include "core/ops.h"

namespace tenon::bench {
namespace {

struct LossShape {
  int64_t rows = 0, vocabulary = 0, channels = 0, percent = 100;
};

LossShape parse_loss(const std::string& text) {
  const auto w =
      match_shape(text, R"(([1-9]\d{0,8})x([1-9]\d{0,8})x([1-9]\d{0,8})(?::([1-9]\d?|100))?)",
                  "ROWSxVOCABULARYxCHANNELS[:PERCENT_SCORED]");
  return {extent(w[0]), extent(w[1]), extent(w[2]), extent(w[3], 100)};
}

// The scored rows lie behind the others, as completions behind their prompts.
class HeadAndLoss {
 public:
  HeadAndLoss(const LossShape& s, DType dtype, bool trained, Device device) : s_(s) {
    x_ = drawn({s.rows, s.channels}, dtype, 1).to(device);
    weight_ =
        drawn({s.vocabulary, s.channels}, trained ? DType::kF32 : dtype, 2, -0.1, 0.1).to(device);
    if (trained) require_grad(weight_);
    targets_ = drawn_ids(s.rows, s.vocabulary, 3);
    first_ = s.rows - std::max<int64_t>(1, s.rows * s.percent / 100);
    for (int64_t row = 0; row < first_; ++row) targets_.data<int32_t>()[row] = -100;
  }

  int64_t scored() const { return s_.rows - first_; }

  void pass() {
    Tape tape;
    const Tensor x = leaf(x_);
    {
      const Recording scope(tape);
      losses_ = linear_cross_entropy(x, weight_, targets_, kScale).losses;
    }
    tape.backward(losses_);
    dx_ = x.slot()->grad;
    losses_ = losses_.detach();
  }

  double check(const std::string& where);

 private:
  static constexpr float kScale = 0.25f;

  // What the last pass gave, on the host.
  struct Results {
    Tensor x, weight, losses, dx;
  };
  // The logit, and an error that is never smaller than that of the ones before.
  double logit(const Results& r, int64_t row, int64_t v);
  void check_row(const Results& r, int64_t row, Errors& errors);
  void check_weight_gradient(const Results& r, int64_t v, int64_t c, Errors& errors);
  int32_t target(int64_t row) const { return targets_.data<int32_t>()[row]; }
  // The relative error of a probability, and the error of a loss: that of two logits, of a sum over V,
  // and some roundings of exp and log.
  double share_error() const {
    return 2 * logit_error_ + sum_share(static_cast<double>(s_.vocabulary)) +
           16 * roundoff(DType::kF32);
  }
  // The gradient of the logits, and a trained head beside narrower activations, may each be rounded
  // to the dtype of those on the way into a product.
  double head_rounding() const { return weight_.dtype() == x_.dtype() ? 0 : roundoff(x_.dtype()); }

  LossShape s_;
  int64_t first_ = 0;  // row that is scored
  double logit_error_ = 0;
  Tensor x_, weight_, targets_, losses_, dx_;
};

double HeadAndLoss::logit(const Results& r, int64_t row, int64_t v) {
  const int64_t C = s_.channels;
  const Sum sum = dot({r.x, row * C}, {r.weight, v * C}, C);
  logit_error_ =
      std::max(logit_error_, (sum_share(static_cast<double>(C)) + head_rounding()) * sum.magnitude);
  return sum.exact;
}

// A gradient is a sum over V whose terms are off by the probabilities' share.
void HeadAndLoss::check_row(const Results& r, int64_t row, Errors& errors) {
  const int64_t C = s_.channels, V = s_.vocabulary;
  const double u = roundoff(x_.dtype()), scale = static_cast<double>(kScale);
  std::vector<double> shares(static_cast<size_t>(V));
  double total = 0;
  for (int64_t v = 0; v < V; ++v)
    total += shares[static_cast<size_t>(v)] = std::exp(logit(r, row, v));
  const double loss = std::log(total / shares[static_cast<size_t>(target(row))]);
  errors.check(element(r.losses, row - first_), loss,
               share_error() + 4 * roundoff(DType::kF32) * std::fabs(loss), "a loss");
  for (const int64_t c : {int64_t{0}, C / 2, C - 1}) {
    Sum sum;
    for (int64_t v = 0; v < V; ++v) {
      const double p = shares[static_cast<size_t>(v)] / total, hit = v == target(row) ? 1 : 0;
      const double weight = scale * element(r.weight, v * C + c);
      sum.add((p - hit) * weight, (p + hit) * std::fabs(weight));
    }
    const double share = sum_share(static_cast<double>(V)) + share_error() + u + head_rounding();
    errors.check(element(r.dx, row * C + c), sum.exact,
                 share * sum.magnitude + u * std::fabs(sum.exact), "an element of dX");
  }
}

// The probabilities are made from the losses, which check_row compares.
void HeadAndLoss::check_weight_gradient(const Results& r, int64_t v, int64_t c, Errors& errors) {
  const Tensor dw = weight_.slot()->grad.to(Device::kCPU);
  Sum sum;
  for (int64_t row = first_; row < s_.rows; ++row) {
    const double lse = element(r.losses, row - first_) + logit(r, row, target(row));
    const double p = std::exp(logit(r, row, v) - lse), hit = v == target(row) ? 1 : 0;
    const double x = static_cast<double>(kScale) * element(r.x, row * s_.channels + c);
    sum.add((p - hit) * x, (p + hit) * std::fabs(x));
  }
  const double share =
      sum_share(static_cast<double>(scored())) + 2 * share_error() + roundoff(x_.dtype());
  errors.check(element(dw, v * s_.channels + c), sum.exact, share * sum.magnitude,
               "an element of dW");
}

double HeadAndLoss::check(const std::string& where) {
  const bool trained = weight_.slot() != nullptr;
  if (trained) weight_.slot()->grad.zero();
  pass();
  const auto host = [](const Tensor& tensor) { return tensor.to(Device::kCPU); };
  const Results r{host(x_), host(weight_), host(losses_), host(dx_)};
  Errors errors(where);
  for (int sample = 0; sample < 3; ++sample)
    check_row(r, first_ + sample * (scored() - 1) / 2, errors);
  for (int64_t row = 0; row < first_; row += std::max<int64_t>(1, first_ / 4))
    errors.check(element(r.dx, row * s_.channels), 0, 0, "dX of a row that is not scored");
  if (!trained) return errors.worst();
  check_weight_gradient(r, 0, 0, errors);
  check_weight_gradient(r, target(s_.rows - 1), s_.channels / 2, errors);
  check_weight_gradient(r, s_.vocabulary - 1, s_.channels - 1, errors);
  return errors.worst();
}

void run_loss(const Options& options, const LossShape& s, DType dtype, bool trained,
              Report& report) {
  const std::string size = fmt::format("{}x{}x{}:{}", s.rows, s.vocabulary, s.channels, s.percent);
  const std::string name = trained ? "trained head" : "frozen head";
  if (!options.wants(fmt::format("loss {} {} {}", name, size, name_of(dtype)))) return;
  HeadAndLoss head(s, dtype, trained, options.device);
  Line line{.group = "loss", .name = name, .size = size, .dtype = dtype};
  line.error = head.check(fmt::format("loss bench {} {}", size, name_of(dtype)));
  MemoryAccount& account = memory(options.device);
  const int64_t before = account.now();
  account.reset_peaks();
  head.pass();
  const int64_t extra = account.peak() - before;
  line.time = time_alone(options.device, options.patience, [&] { head.pass(); });
  const double product = 2.0 * static_cast<double>(head.scored()) *
                         static_cast<double>(s.vocabulary) * static_cast<double>(s.channels);
  line.work.operations = (trained ? 3 : 2) * product;
  line.note = fmt::format("extra memory {:.1f} MiB", static_cast<double>(extra) / (1 << 20));
  line.more = {{"rows", s.rows},       {"vocabulary", s.vocabulary}, {"channels", s.channels},
               {"percent", s.percent}, {"trained", trained},         {"extra_bytes", extra}};
  report.add(line);
}

}  // namespace

void bench_loss(const Options& options, Report& report) {
  std::vector<LossShape> shapes;
  for (const std::string& text : options.shapes) shapes.push_back(parse_loss(text));
  if (options.shapes.empty()) shapes = {{2048, 50257, 768, 100}, {2048, 50257, 768, 25}};
  report.begin();
  for (const DType dtype : options.dtypes) {
    for (const LossShape& shape : shapes) {
      run_loss(options, shape, dtype, false, report);
      run_loss(options, shape, dtype, true, report);
    }
  }
}

}  // namespace tenon::bench
