// SPDX-License-Identifier: Apache-2.0
// Optimizers against double precision, with a bound that is carried along step by step; the
// learning rate's schedule; loss scaling.
#include <catch2/catch.hpp>
#include <cmath>

#include "core/backend.h"
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

// torch.optim.Adafactor of PyTorch 2 on the same numbers, lr 0.05 and weight decay 0.1, five steps.
TEST_CASE("adafactor is PyTorch's", "[optimizer]") {
  Parameter matrix{.shape = {3, 4}, .trainable = true}, vector{.shape = {4}, .trainable = true};
  std::vector<float> start;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 4; ++j)
      start.push_back(static_cast<float>(i * 7 % 11 - 5) / 8 + static_cast<float>(j) / 16);
  }
  matrix.value = Tensor::empty({3, 4}, DType::kF32);
  std::copy(start.begin(), start.end(), matrix.value.data<float>());
  vector.value = Tensor::empty({4}, DType::kF32);
  const float begin[] = {0.5f, -1.0f, 0.25f, 0.0f};
  std::copy(begin, begin + 4, vector.value.data<float>());
  require_grad(matrix.value);
  require_grad(vector.value);
  const OptimizerOptions options{.rule = &kAdafactor, .weight_decay = 0.1};
  std::vector<OptimizerSlot> slots = {{"w", &matrix, 0, options.rule->state(matrix, options)},
                                      {"v", &vector, 1, options.rule->state(vector, options)}};
  CHECK(slots[0].kept("row").shape() == Shape{3});
  CHECK(slots[0].kept("column").shape() == Shape{4});
  CHECK(slots[1].kept("v").shape() == Shape{4});
  const std::vector<double> first_w = {-0.610894322, -0.588739574, -0.475538701, -0.447700351,
                                       0.272648603,  0.310937494,  0.349226415,  0.444299579,
                                       -0.265118986, -0.164908379, -0.132559493, -0.034487449},
                            first_v = {0.526141107, -1.023641109, 0.248750001, 0.028641099},
                            last_w = {-0.617818415, -0.576350927, -0.447394401, -0.47023052,
                                      0.259123623,  0.311221391,  0.370380372,  0.41507864,
                                      -0.259948522, -0.143765822, -0.15232487,  -0.042571638},
                            last_v = {0.474789888, -0.976777852, 0.213504866, -0.010764631};
  for (int t = 1; t <= 5; ++t) {
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 4; ++j) {
        matrix.value.slot()->grad.data<float>()[4 * i + j] =
            static_cast<float>((i * 5 + j * 3 + t * 2) % 7 - 3) / 4;
      }
    }
    for (int j = 0; j < 4; ++j)
      vector.value.slot()->grad.data<float>()[j] = static_cast<float>((j * 3 + t) % 5 - 2) / 8;
    options.rule->step({.options = options,
                        .kernels = kernels(Device::kCPU),
                        .slots = slots,
                        .scale = {.unscale = 1},
                        .lr = 0.05,
                        .number = t});
    // Twenty roundings a step of numbers below 1, there and here.
    const Bound bound = Bound::fixed(t * 40 * kU);
    if (t == 1) {
      CHECK_WITHIN(values(matrix.value), first_w, bound);
      CHECK_WITHIN(values(vector.value), first_v, bound);
    }
  }
  CHECK_WITHIN(values(matrix.value), last_w, Bound::fixed(5 * 40 * kU));
  CHECK_WITHIN(values(vector.value), last_v, Bound::fixed(5 * 40 * kU));
}

TEST_CASE("moments in 8 bits take a quarter, those of small tensors stay in fp32", "[optimizer]") {
  const auto model = tiny_model();
  train_all(*model);
  int64_t eight = 0, wide = 0, small = 0;
  const auto bytes = [&](const OptimizerOptions& options) {
    int64_t sum = 0;
    Optimizer(*model, options).visit_state([&](const std::string& name, Tensor& tensor) {
      const bool weight = name.ends_with("weight") || name.ends_with("bias");
      if (!weight) sum += tensor.bytes();
      if (name.ends_with("_codes")) ++eight;
      if (name.ends_with(".m")) ++small;
    });
    return sum;
  };
  wide = bytes({});
  CHECK(eight == 0);
  const int64_t tensors = std::exchange(small, 0);
  const int64_t codes = bytes({.rule = &kAdamW8bit, .least_8bit = 1000});
  CHECK(eight > 0);
  CHECK(small > 0);
  CHECK(2 * small + eight == 2 * tensors);
  CHECK(codes < wide / 2);
  CHECK(bytes({.rule = &kAdamW8bit, .least_8bit = 1}) * 3 < wide);
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

TEST_CASE("growth and back-off of the loss scale are what was asked for", "[scaler]") {
  LossScaler scaler(DType::kF16, {.first = 1024, .grow_every = 3, .back_off = 0.125});
  CHECK(scaler.scale() == 1024);
  for (int i = 0; i < 3; ++i) scaler.update(true);
  CHECK(scaler.scale() == 2048);
  scaler.update(false);
  CHECK(scaler.scale() == 256);
  for (int i = 0; i < 2; ++i) scaler.update(false);
  CHECK(scaler.scale() == 4);
  CHECK(scaler.update(false));  // no scale is below 1
  CHECK(scaler.scale() == 1);
  CHECK(!scaler.update(false));
}

TEST_CASE("other dtypes have scale 1 and no second chance", "[scaler]") {
  LossScaler scaler(GENERATE(DType::kF32, DType::kBF16));
  for (int i = 0; i < 5000; ++i) CHECK(scaler.update(true));
  CHECK(scaler.scale() == 1);
  CHECK(!scaler.update(false));
}

}  // namespace tenon::test
