// SPDX-License-Identifier: Apache-2.0
// What an adapter costs: the linear op forward and backward with and without one, in turn. Without it
// the layer is frozen, so its backward computes dX alone.
#include <fmt/core.h>

#include <cmath>
#include <vector>

#include "bench/groups.h"
#include "bench/values.h"
#include "core/backend.h"
#include "core/ops.h"

namespace tenon::bench {
namespace {

struct LoraShape {
  int64_t rows = 0, in = 0, out = 0, rank = 0;
  WeightLayout layout = WeightLayout::kOutIn;
};

std::vector<LoraShape> lora_shapes() {
  std::vector<LoraShape> shapes;
  for (const int64_t rank : {16, 8}) {
    for (const int64_t width : {768, 2048}) {
      // GPT-2 stores (in, out), Llama (out, in).
      const WeightLayout layout = width == 768 ? WeightLayout::kInOut : WeightLayout::kOutIn;
      for (const int64_t out : {width, 3 * width})
        shapes.push_back({2048, width, out, rank, layout});
    }
  }
  return shapes;
}

LoraShape parse_lora(const std::string& text) {
  const auto words =
      match_shape(text, R"(([1-9]\d{0,8})x([1-9]\d{0,8})x([1-9]\d{0,8})(?::([1-9]\d{0,4}))?)",
                  "ROWSxINxOUT[:RANK]");
  return {extent(words[0]), extent(words[1]), extent(words[2]), extent(words[3], 16)};
}

// A layer with everything that a pass through it needs, and what the last pass gave.
class Layer {
 public:
  Layer(const LoraShape& s, DType dtype, Device device) : s_(s) {
    const bool in_out = s.layout == WeightLayout::kInOut;
    const auto placed = [&](const Shape& shape, DType type, uint32_t seed, double reach) {
      return drawn(shape, type, seed, -reach, reach).to(device);
    };
    x_ = placed({s.rows, s.in}, dtype, 1, 1);
    weight_ = placed(in_out ? Shape{s.in, s.out} : Shape{s.out, s.in}, dtype, 2, 0.05);
    dy_ = placed({s.rows, s.out}, dtype, 3, 1);
    lora_.a = placed({s.rank, s.in}, DType::kF32, 4, 0.05);
    lora_.b = placed({s.out, s.rank}, DType::kF32, 5, 0.05);
    lora_.scale = 2;
    require_grad(lora_.a);
    require_grad(lora_.b);
  }

  // Forward and backward.
  void pass(bool adapted) {
    Tape tape;
    const Tensor x = leaf(x_);
    {
      const Recording scope(tape);
      y_ = linear(x, weight_, s_.layout, {}, adapted ? &lora_ : nullptr);
    }
    tape.backward(y_, dy_);
    dx_ = x.slot()->grad;
    y_ = y_.detach();
  }

  double check(const std::string& where);

 private:
  LoraShape s_;
  Tensor x_, weight_, dy_, y_, dx_;
  LoraFactors lora_;
};

// Compares a few elements of y, dX, dA and dB of one adapted pass. Beside narrower activations A, B
// and what comes between them may each be rounded once on their way into a product.
double Layer::check(const std::string& where) {
  lora_.a.slot()->grad.zero();
  lora_.b.slot()->grad.zero();
  pass(true);
  const auto host = [](const Tensor& tensor) { return tensor.to(Device::kCPU); };
  const Tensor x = host(x_), w = host(weight_), dy = host(dy_), y = host(y_), dx = host(dx_);
  const Tensor a = host(lora_.a), b = host(lora_.b), da = host(lora_.a.slot()->grad),
               db = host(lora_.b.slot()->grad);
  const double scale = static_cast<double>(lora_.scale), u = roundoff(x.dtype());
  const auto [rows, in, out, rank, layout] = s_;
  const bool in_out = layout == WeightLayout::kInOut;
  const int64_t in_step = in_out ? out : 1, out_step = in_out ? 1 : in;  // of the weight
  const auto t_of = [&](int64_t row, int64_t r) {                        // scale x A^T
    return dot({x, row * in}, {a, r * in}, in, scale);
  };
  const auto u_of = [&](int64_t row, int64_t r) {  // scale dY B
    return dot({dy, row * out}, {b, r, rank}, out, scale);
  };
  Errors errors(where);
  const auto compare = [&](double got, const Sum& frozen, const Sum& low, int64_t terms,
                           double rounding, const char* what) {
    const double exact = frozen.exact + low.exact;
    const double bound =
        sum_share(static_cast<double>(terms)) * (frozen.magnitude + 2 * low.magnitude) +
        3.03 * u * low.magnitude + rounding * std::fabs(exact) * 1.001;
    errors.check(got, exact, bound, what);
  };
  for (int sample = 0; sample < 4; ++sample) {
    const int64_t row = sample * (rows - 1) / 3, o = sample * (out - 1) / 3,
                  i = sample * (in - 1) / 3, r = sample * (rank - 1) / 3;
    Sum forward, back, sum_a, sum_b;  // of what goes through the adapter
    for (int64_t k = 0; k < rank; ++k) {
      const Sum t = t_of(row, k), v = u_of(row, k);
      const double bk = element(b, o * rank + k), ak = element(a, k * in + i);
      forward.add(t.exact * bk, t.magnitude * std::fabs(bk));
      back.add(v.exact * ak, v.magnitude * std::fabs(ak));
    }
    for (int64_t k = 0; k < rows; ++k) {
      const Sum t = t_of(k, r), v = u_of(k, r);
      const double xk = element(x, k * in + i), dk = element(dy, k * out + o);
      sum_a.add(v.exact * xk, v.magnitude * std::fabs(xk));
      sum_b.add(t.exact * dk, t.magnitude * std::fabs(dk));
    }
    compare(element(y, row * out + o), dot({x, row * in}, {w, o * out_step, in_step}, in), forward,
            in + rank, u, "y");
    compare(element(dx, row * in + i), dot({dy, row * out}, {w, i * in_step, out_step}, out), back,
            out + rank, u, "dX");
    compare(element(da, r * in + i), {}, sum_a, rows + out, roundoff(DType::kF32), "dA");
    compare(element(db, o * rank + r), {}, sum_b, rows + in, roundoff(DType::kF32), "dB");
  }
  return errors.worst();
}

void run_lora(const Options& options, const LoraShape& s, DType dtype, Report& report) {
  const std::string size = fmt::format("{}x{}x{}:{}", s.rows, s.in, s.out, s.rank);
  const std::string name =
      fmt::format("lora.r{} {}", s.rank, s.layout == WeightLayout::kInOut ? "in-out" : "out-in");
  if (!options.wants(fmt::format("lora {} {} {}", name, size, name_of(dtype)))) return;
  Layer layer(s, dtype, options.device);
  Line line{.group = "lora", .name = name, .size = size, .dtype = dtype};
  line.error = layer.check(fmt::format("lora bench {} {}", size, name_of(dtype)));
  const std::vector<Spread> times =
      race(options.device,
           {{"adapted", [&] { layer.pass(true); }}, {"frozen", [&] { layer.pass(false); }}},
           options.patience);
  line.time = times[0];
  const double frozen = times[1].median, overhead = times[0].median / frozen - 1;
  line.work.operations =
      4.0 * static_cast<double>(s.rows) * static_cast<double>(s.in) * static_cast<double>(s.out);
  line.note =
      fmt::format("frozen {:.3f} ms: the adapter adds {:.1f} %", frozen * 1e3, 100 * overhead);
  line.more = {{"rows", s.rows},
               {"in", s.in},
               {"out", s.out},
               {"rank", s.rank},
               {"ms_frozen", frozen * 1e3},
               {"overhead", overhead}};
  report.add(line);
}

}  // namespace

void bench_lora(const Options& options, Report& report) {
  std::vector<LoraShape> shapes;
  for (const std::string& text : options.shapes) shapes.push_back(parse_lora(text));
  if (options.shapes.empty()) shapes = lora_shapes();
  report.begin();
  for (const DType dtype : options.dtypes) {
    for (const LoraShape& shape : shapes) run_lora(options, shape, dtype, report);
  }
}

}  // namespace tenon::bench
