// SPDX-License-Identifier: Apache-2.0
// Optimizers against double precision, with a bound that is carried along step by step; the
// learning rate's schedule; loss scaling.
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/models/tiny_model.h"
#include "train/loss_scaler.h"
#include "train/optimizer.h"
#include "train/schedule.h"

namespace tenon::test {
namespace {

constexpr double kU = 0x1p-24;

// What a double holds after it went through fp32, as options do on their way to a kernel.
double as_float(double x) { return static_cast<double>(static_cast<float>(x)); }

struct Hyper {
  OptimizerOptions options;
  double lr = 0.01, grad_scale = 0.37;
};

// One element and how far fp32 may be from it.
struct Element {
  double w, m = 0, v = 0;
  double w_error = 0, m_error = 0, v_error = 0;
};

// A sum or product of fp32 rounds by u of its magnitude: each error below is what the inputs'
// errors become, and one u for each rounding on the way.
void adamw(Element& e, double grad, const Hyper& h, double decay, int64_t t) {
  const double b1 = as_float(h.options.beta1), b2 = as_float(h.options.beta2),
               eps = as_float(h.options.eps);
  const double lr = as_float(h.lr), g = grad * as_float(h.grad_scale);
  e.m_error = b1 * e.m_error + 4 * kU * (b1 * std::fabs(e.m) + (1 - b1) * std::fabs(g));
  e.v_error = b2 * e.v_error + 5 * kU * (b2 * e.v + (1 - b2) * g * g);
  e.m = b1 * e.m + (1 - b1) * g;
  e.v = b2 * e.v + (1 - b2) * g * g;
  const double correction1 = 1 - std::pow(b1, static_cast<double>(t)),
               correction2 = 1 - std::pow(b2, static_cast<double>(t));
  const double below = std::sqrt(e.v / correction2) + eps;
  const double update = lr * (e.m / correction1) / below;
  const double update_error =
      lr / correction1 / below * e.m_error + std::fabs(update) * (e.v_error / (2 * e.v) + 8 * kU);
  e.w_error += update_error + 4 * kU * std::fabs(e.w);
  e.w -= lr * as_float(decay) * e.w;
  e.w -= update;
}

void sgd(Element& e, double grad, const Hyper& h, double decay) {
  const double lr = as_float(h.lr), momentum = as_float(h.options.momentum), wd = as_float(decay);
  const double scaled = grad * as_float(h.grad_scale), g = scaled + wd * e.w;
  const double g_error = wd * e.w_error + 3 * kU * (std::fabs(scaled) + wd * std::fabs(e.w));
  e.m_error = momentum * e.m_error + g_error + 2 * kU * (momentum * std::fabs(e.m) + std::fabs(g));
  e.m = momentum * e.m + g;
  e.w_error += lr * e.m_error + 2 * kU * (std::fabs(e.w) + lr * std::fabs(e.m));
  e.w -= lr * e.m;
}

void set_gradients(Model& model, uint32_t seed) {
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    const Tensor& grad = parameter.value.slot()->grad;
    const std::vector<float> random = random_values(grad.numel(), seed++);
    std::copy(random.begin(), random.end(), grad.data<float>());
  });
}

}  // namespace

TEST_CASE("optimizers follow double precision over 50 steps", "[optimizer]") {
  const UpdateRule* const rule = GENERATE(&kAdamW, &kSgd);
  const double weight_decay = GENERATE(0.0, 0.1);
  const double momentum = GENERATE(0.0, 0.9);
  if (rule == &kAdamW && momentum != 0) return;
  const bool decay_vectors = weight_decay != 0 && momentum != 0;
  Hyper h;
  h.options = {.rule = rule,
               .momentum = momentum,
               .weight_decay = weight_decay,
               .decay_vectors = decay_vectors};
  const auto model = tiny_model();
  train_all(*model);
  Optimizer optimizer(*model, h.options);
  std::map<std::string, std::vector<Element>> want;
  model->visit_parameters([&](const std::string& path, Parameter& parameter) {
    for (const float w : values(parameter.value))
      want[path].push_back({.w = static_cast<double>(w)});
  });
  for (int64_t t = 1; t <= 50; ++t) {
    set_gradients(*model, static_cast<uint32_t>(100 * t));
    model->visit_parameters([&](const std::string& path, Parameter& parameter) {
      const double decay = parameter.vector && !decay_vectors ? 0 : weight_decay;
      const float* grad = parameter.value.slot()->grad.data<float>();
      for (Element& element : want[path]) {
        const double g = static_cast<double>(*grad++);
        rule == &kAdamW ? adamw(element, g, h, decay, t) : sgd(element, g, h, decay);
      }
    });
    optimizer.step(h.lr, h.grad_scale);
    CHECK(optimizer.steps() == t);
  }
  model->visit_parameters([&](const std::string& path, Parameter& parameter) {
    INFO(path);
    std::vector<double> exact, errors;
    for (const Element& element : want[path]) {
      exact.push_back(element.w);
      errors.push_back(element.w_error);
    }
    CHECK_WITHIN(values(parameter.value), exact, Bound{.absolute = errors});
    // The bound tells this optimizer from one that is wrong by 1e-4 of what it does.
    CHECK(*std::max_element(errors.begin(), errors.end()) < 1e-4 * 50 * h.lr);
  });
}

TEST_CASE("an optimizer holds the state that a checkpoint needs, for what is trainable",
          "[optimizer]") {
  const auto model = tiny_model();
  give_lora(*model, {.rank = 2, .alpha = 4, .targets = {"c_attn"}});
  const auto names = [&](const OptimizerOptions& options) {
    std::vector<std::string> all;
    Optimizer(*model, options).visit_state([&](const std::string& name, Tensor&) {
      all.push_back(name);
    });
    return all;
  };
  const std::string a = "transformer.h.0.attn.c_attn.lora_A.weight";
  CHECK(names({}).size() == 12);
  CHECK(std::vector<std::string>{a, a + ".m", a + ".v"} == [&] {
    auto all = names({});
    all.resize(3);
    return all;
  }());
  CHECK(names({.rule = &kSgd}).size() == 8);
  CHECK(names({.rule = &kSgd, .momentum = 0}).size() == 4);
}

TEST_CASE("the gradient's norm, and which parameter is not finite", "[optimizer]") {
  const auto model = tiny_model();
  train_all(*model);
  Optimizer optimizer(*model, {});
  set_gradients(*model, 1);
  double squares = 0;
  for (const auto& [name, gradient] : gradients_of(*model)) {
    for (const float g : gradient) squares += static_cast<double>(g) * static_cast<double>(g);
  }
  CHECK(optimizer.gradient_norm() ==
        Approx(std::sqrt(squares)).epsilon(1e-12));  // squares of floats, added in double
  CHECK(optimizer.gradient_norm(0.25) == Approx(0.25 * std::sqrt(squares)).epsilon(1e-12));
  CHECK(optimizer.bad_gradient() == "");
  CHECK(optimizer.bad_weight() == "");
  model->visit_parameters([](const std::string& path, Parameter& parameter) {
    if (path == "transformer.h.1.mlp.c_fc.bias")
      parameter.value.slot()->grad.data<float>()[95] = INFINITY;
    if (path == "transformer.ln_f.weight") parameter.value.data<float>()[0] = NAN;
  });
  CHECK(!std::isfinite(optimizer.gradient_norm()));
  CHECK(optimizer.bad_gradient() == "transformer.h.1.mlp.c_fc.bias");
  CHECK(optimizer.bad_weight() == "transformer.ln_f.weight");
  optimizer.zero_gradients();
  CHECK(optimizer.gradient_norm() == 0);
  CHECK(optimizer.bad_gradient() == "");
}

TEST_CASE("a step clips to a norm, and a gradient that is not finite changes nothing",
          "[optimizer]") {
  const UpdateRule* const rule = GENERATE(&kAdamW, &kSgd);
  const auto weights_after = [&](double unscale, double max_norm, bool broken) {
    const auto model = tiny_model();
    train_all(*model);
    Optimizer optimizer(*model, {.rule = rule, .momentum = 0});
    set_gradients(*model, 1);
    if (broken) model->head().value.slot()->grad.data<float>()[1] = -INFINITY;
    const double plain = optimizer.gradient_norm();
    const double norm = optimizer.step(0.5, unscale, max_norm);
    CHECK(std::isfinite(norm) == !broken);
    CHECK(optimizer.steps() == (broken ? 0 : 1));
    if (!broken) CHECK(norm == Approx(plain * unscale).epsilon(1e-12));
    std::vector<std::vector<float>> all;
    optimizer.visit_state(
        [&](const std::string&, Tensor& tensor) { all.push_back(values(tensor)); });
    return std::pair{all, plain};
  };
  const auto [plain, norm] = weights_after(1, 0, false);
  CHECK(weights_after(1, 2 * norm, false).first == plain);  // below the limit
  // Clipped to a quarter, or multiplied by it: the same but for 1e-6 in the denominator.
  const auto clipped = weights_after(1, 0.25 * norm, false).first;
  const auto scaled = weights_after(0.25 * norm / (norm + 1e-6), 0, false).first;
  CHECK(clipped == scaled);
  CHECK(clipped != plain);
  const auto untouched = weights_after(1, 1, true).first;
  const auto model = tiny_model();
  train_all(*model);
  size_t i = 0;
  Optimizer(*model, {.rule = rule, .momentum = 0})
      .visit_state(
          [&](const std::string&, Tensor& tensor) { CHECK(untouched.at(i++) == values(tensor)); });
}

TEST_CASE("the learning rate rises to its peak, then falls to zero or stays", "[schedule]") {
  const auto rates = [](const Schedule& schedule, std::vector<int64_t> steps) {
    std::vector<double> all;
    for (const int64_t step : steps) all.push_back(schedule.rate(step));
    return all;
  };
  const auto near = [](const std::vector<double>& got, const std::vector<double>& want) {
    REQUIRE(got.size() == want.size());
    for (size_t i = 0; i < got.size(); ++i)
      CHECK(got[i] == Approx(want[i]).margin(1e-15).epsilon(1e-12));
  };
  near(rates({ScheduleKind::kLinear, 2, 3, 13}, {0, 1, 2, 3, 8, 12, 13, 20}),
       {0.5, 1, 1.5, 2, 1, 0.2, 0, 0});
  near(rates({ScheduleKind::kCosine, 2, 0, 4}, {0, 1, 2, 3, 4, 9}),
       {2, 1 + std::sqrt(0.5), 1, 1 - std::sqrt(0.5), 0, 0});
  near(rates({ScheduleKind::kCosine, 2, 1, 4}, {0, 1, 2, 3}), {1, 2, 1.5, 0.5});
  near(rates({ScheduleKind::kConstant, 2, 1, 4}, {0, 1, 2, 100}), {1, 2, 2, 2});
  near(rates({ScheduleKind::kLinear, 2, 9, 4}, {0, 3}),
       {0.2, 0.8});  // a warm-up that is longer than the run
  near(rates({ScheduleKind::kCosine, 2, 0, 1}, {0}), {2});
}

TEST_CASE("the loss scale is halved by an overflow and grows after many good steps", "[scaler]") {
  LossScaler scaler(DType::kF16);
  CHECK(scaler.scale() == 65536);
  CHECK(scaler.update(false));
  CHECK(scaler.scale() == 32768);
  for (int i = 0; i < 1999; ++i) CHECK(scaler.update(true));
  CHECK(scaler.scale() == 32768);
  CHECK(scaler.update(true));
  CHECK(scaler.scale() == 65536);
  // An overflow begins the count anew.
  for (int i = 0; i < 1500; ++i) scaler.update(true);
  scaler.update(false);
  for (int i = 0; i < 1999; ++i) scaler.update(true);
  CHECK(scaler.scale() == 32768);
  // A resumed run goes on counting.
  LossScaler resumed(DType::kF16);
  resumed.restore(scaler.scale(), scaler.good_steps());
  CHECK(resumed.update(true));
  CHECK(resumed.scale() == 65536);
  // No scale is below 1: there an overflow is a failure.
  int halvings = 0;
  while (resumed.update(false)) ++halvings;
  CHECK(halvings == 16);
  CHECK(resumed.scale() == 1);
  for (int i = 0; i < 100000; ++i) resumed.update(true);
  CHECK(resumed.scale() == 0x1p24);
}

TEST_CASE("other dtypes have scale 1 and no second chance", "[scaler]") {
  LossScaler scaler(GENERATE(DType::kF32, DType::kBF16));
  for (int i = 0; i < 5000; ++i) CHECK(scaler.update(true));
  CHECK(scaler.scale() == 1);
  CHECK(!scaler.update(false));
}

}  // namespace tenon::test
