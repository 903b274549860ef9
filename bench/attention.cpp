// SPDX-License-Identifier: Apache-2.0
// Letters: B batch, T queries, S keys, H heads, G key/value heads, D head size.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "bench/groups.h"
#include "bench/values.h"
#include "core/backend.h"
#include "tests/support/reference.h"

namespace tenon::bench {
namespace {

namespace reference = test::reference;

struct AttentionShape {
  int64_t batch = 1, heads = 1, kv_heads = 1, head_size = 64, queries = 1, keys = 1;
  std::string text() const {
    return fmt::format("{}x{}/{}x{}x{}:{}", batch, heads, kv_heads, head_size, queries, keys);
  }
  bool decodes() const { return queries < keys; }
};

std::vector<AttentionShape> attention_shapes() {
  return {{4, 12, 12, 64, 512, 512},   {1, 12, 12, 64, 1024, 1024}, {1, 12, 12, 64, 2048, 2048},
          {1, 32, 32, 80, 1024, 1024}, {1, 32, 8, 64, 512, 512},    {1, 24, 8, 128, 1024, 1024},
          {1, 12, 12, 64, 1, 2048},    {1, 32, 8, 64, 1, 2048},     {8, 32, 8, 64, 1, 2048}};
}

AttentionShape parse_attention(const std::string& text) {
  const char* expected = "BxHEADS[/KV_HEADS]xSIZExQUERIES[:KEYS]";
  const auto w = match_shape(
      text,
      R"(([1-9]\d{0,5})x([1-9]\d{0,5})(?:/([1-9]\d{0,5}))?x([1-9]\d{0,4})x([1-9]\d{0,6})(?::([1-9]\d{0,6}))?)",
      expected);
  const AttentionShape s{extent(w[0]), extent(w[1]), extent(w[2], extent(w[1])),
                         extent(w[3]), extent(w[4]), extent(w[5], extent(w[4]))};
  if (s.heads % s.kv_heads != 0 || s.queries > s.keys || s.head_size % 8 != 0) {
    fail_input(
        "--shape: expected {}, KV_HEADS dividing HEADS, SIZE a multiple of 8, QUERIES at most "
        "KEYS, got \"{}\"",
        expected, printable(text));
  }
  return s;
}

// Operands as the op lays them: q, k and v side by side in one array of T rows; of keys and values
// that are older than the queries, a cache of their own.
class Heads {
 public:
  Heads(const AttentionShape& s, DType dtype, Device device) : s_(s), dtype_(dtype) {
    const int64_t rows = s.batch * s.queries, old_rows = s.batch * s.keys;
    const auto placed = [&](int64_t count, int64_t width, uint32_t seed) {
      return drawn({count, width}, dtype, seed).to(device);
    };
    qkv_ = placed(rows, (s.heads + 2 * s.kv_heads) * s.head_size, 1);
    if (s.decodes()) {
      keys_ = placed(old_rows, s.kv_heads * s.head_size, 2);
      values_ = placed(old_rows, s.kv_heads * s.head_size, 3);
    }
    out_ = placed(rows, s.heads * s.head_size, 4);
    dout_ = placed(rows, s.heads * s.head_size, 5);
    dqkv_ = Tensor::empty_like(qkv_);
    lse_ = Tensor::empty({s.batch, s.heads, s.queries}, DType::kF32, device);
  }

  AttentionArgs forward() const {
    const int64_t width = qkv_.dim(1), kv_width = s_.decodes() ? keys_.dim(1) : width;
    return {.q = qkv_.raw(),
            .k = s_.decodes() ? keys_.raw() : part(qkv_, s_.heads),
            .v = s_.decodes() ? values_.raw() : part(qkv_, s_.heads + s_.kv_heads),
            .out = out_.raw(),
            .lse = s_.decodes() ? nullptr : lse_.data<float>(),
            .batch = s_.batch,
            .queries = s_.queries,
            .keys = s_.keys,
            .heads = s_.heads,
            .kv_heads = s_.kv_heads,
            .head_size = s_.head_size,
            .q_stride = width,
            .kv_stride = kv_width,
            .out_stride = s_.heads * s_.head_size,
            .kv_batch_stride = s_.keys * kv_width,
            .scale = scale(),
            .dtype = dtype_};
  }
  AttentionGradArgs backward() const {
    return {.forward = forward(),
            .dout = dout_.raw(),
            .dq = dqkv_.raw(),
            .dk = part(dqkv_, s_.heads),
            .dv = part(dqkv_, s_.heads + s_.kv_heads),
            .dq_stride = qkv_.dim(1),
            .dkv_stride = qkv_.dim(1)};
  }

  // Compares the last group of heads of the last sequence with the double reference.
  double check(bool with_gradients, const std::string& where) const;

 private:
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(s_.head_size)); }
  void* part(const Tensor& array, int64_t head) const {
    return static_cast<std::byte*>(array.raw()) + head * s_.head_size * size_of(dtype_);
  }
  // Heads [head, head + count) of the last sequence's tokens, as doubles.
  reference::Values heads_of(const Tensor& array, int64_t head, int64_t count) const;

  AttentionShape s_;
  DType dtype_;
  Tensor qkv_, keys_, values_, out_, dout_, dqkv_, lse_;
};

reference::Values Heads::heads_of(const Tensor& array, int64_t head, int64_t count) const {
  const Tensor host = array.to(Device::kCPU);
  const int64_t width = host.dim(1), tokens = host.dim(0) / s_.batch;
  reference::Values values;
  for (int64_t t = host.dim(0) - tokens; t < host.dim(0); ++t) {
    for (int64_t e = head * s_.head_size; e < (head + count) * s_.head_size; ++e)
      values.push_back(element(host, t * width + e));
  }
  return values;
}

// What a kernel adds that multiplies narrow numbers: the second factor of a product, a probability
// or the gradient of a score, is rounded to `dtype` before, so each term is off by a rounding.
struct Roundings {
  reference::Values out, dq, dk, dv;
};

Roundings roundings(const reference::AttentionProblem& p, DType dtype, const reference::Values& q,
                    const reference::Values& k, const reference::Values& v,
                    const reference::Values& dout, const reference::Attention& forward) {
  Roundings r{reference::Values(q.size()), reference::Values(q.size()), reference::Values(k.size()),
              reference::Values(k.size())};
  if (dtype == DType::kF32) return r;
  const double u = roundoff(dtype), tiny = 0x1p-24;  // the smallest number of fp16; bf16's is less
  const auto dot = [&](const reference::Values& x, int64_t i, const reference::Values& y,
                       int64_t j) {
    double sum = 0;
    for (int64_t e = 0; e < p.head_size; ++e) sum += x[size_t(i + e)] * y[size_t(j + e)];
    return sum;
  };
  for (int64_t row = 0; row < p.heads * p.queries; ++row) {
    const int64_t h = row / p.queries, i = row % p.queries, qi = p.q_at(0, i, h);
    const double delta = dot(dout, qi, forward.out, qi);
    for (int64_t j = 0; j <= i + p.keys - p.queries; ++j) {
      const int64_t kj = p.k_at(0, j, h);
      const double share = std::exp(p.scale * dot(q, qi, k, kj) - forward.lse[size_t(row)]);
      const double share_error = u * share + tiny;
      const double ds_error =
          p.scale * (u * share * std::fabs(dot(dout, qi, v, kj) - delta) + tiny);
      for (int64_t e = 0; e < p.head_size; ++e) {
        const auto qe = size_t(qi + e), ke = size_t(kj + e);
        r.out[qe] += share_error * std::fabs(v[ke]);
        r.dv[ke] += share_error * std::fabs(dout[qe]);
        r.dq[qe] += ds_error * std::fabs(k[ke]);
        r.dk[ke] += ds_error * std::fabs(q[qe]);
      }
    }
  }
  return r;
}

// The errors of fp32 arithmetic are derived in reference.cpp; what is stored is rounded once more.
double Heads::check(bool with_gradients, const std::string& where) const {
  const int64_t group = s_.heads / s_.kv_heads, first = s_.heads - group;
  const int64_t k_head = s_.heads + s_.kv_heads - 1, v_head = k_head + s_.kv_heads;
  const reference::AttentionProblem problem{.queries = s_.queries,
                                            .keys = s_.keys,
                                            .heads = group,
                                            .head_size = s_.head_size,
                                            .scale = static_cast<double>(scale())};
  const auto q = heads_of(qkv_, first, group);
  const auto k = s_.decodes() ? heads_of(keys_, s_.kv_heads - 1, 1) : heads_of(qkv_, k_head, 1);
  const auto v = s_.decodes() ? heads_of(values_, s_.kv_heads - 1, 1) : heads_of(qkv_, v_head, 1);
  const auto out = heads_of(out_, first, group), dout = heads_of(dout_, first, group);
  Errors errors(where);
  const double u = roundoff(dtype_);
  const auto compare = [&](const reference::Values& got, const reference::Values& exact,
                           const reference::Values& error, const reference::Values& rounding,
                           const char* what) {
    for (size_t i = 0; i < exact.size(); ++i) {
      const double computed = error[i] * (1 + u) + rounding[i];
      errors.check(got[i], exact[i], computed + u * (std::fabs(exact[i]) + computed), what);
    }
  };
  const reference::Attention want = reference::attention(problem, q, k, v);
  const Roundings r = roundings(problem, dtype_, q, k, v, dout, want);
  compare(out, want.out, want.out_error, r.out, "an element of out");
  if (!with_gradients) return errors.worst();
  // The kernel starts from what it stored, so the reference does too.
  const Tensor lse = lse_.to(Device::kCPU);
  const float* last = lse.data<float>() + lse.numel() - group * s_.queries;
  const reference::AttentionGrad grad =
      reference::attention_grad(problem, q, k, v, out, {last, last + group * s_.queries}, dout);
  compare(heads_of(dqkv_, first, group), grad.dq, grad.dq_error, r.dq, "an element of dq");
  compare(heads_of(dqkv_, k_head, 1), grad.dk, grad.dk_error, r.dk, "an element of dk");
  compare(heads_of(dqkv_, v_head, 1), grad.dv, grad.dv_error, r.dv, "an element of dv");
  return errors.worst();
}

void run_attention(const Options& options, const AttentionShape& s, DType dtype, bool gradients,
                   Report& report) {
  const std::string name = s.decodes() ? "decode" : gradients ? "forward+backward" : "forward";
  if (!options.wants(fmt::format("attention {} {} {}", name, s.text(), name_of(dtype)))) return;
  const Heads heads(s, dtype, options.device);
  const KernelTable& table = kernels(options.device);
  const auto run = [&] {
    table.attention(heads.forward());
    if (gradients) table.attention_grad(heads.backward());
  };
  run();
  Line line{.group = "attention", .name = name, .size = s.text(), .dtype = dtype};
  line.error = heads.check(gradients,
                           fmt::format("attention bench {} {} {}", name, s.text(), name_of(dtype)));
  line.time = time_alone(options.device, options.patience, run);
  line.work = work_of(heads.forward());
  if (gradients) line.work += work_of(heads.backward());
  line.more = {{"batch", s.batch},         {"heads", s.heads},     {"kv_heads", s.kv_heads},
               {"head_size", s.head_size}, {"queries", s.queries}, {"keys", s.keys},
               {"backward", gradients}};
  report.add(line);
}

}  // namespace

void bench_attention(const Options& options, Report& report) {
  std::vector<AttentionShape> shapes;
  for (const std::string& text : options.shapes) shapes.push_back(parse_attention(text));
  if (options.shapes.empty()) shapes = attention_shapes();
  report.begin();
  for (const DType dtype : options.dtypes) {
    for (const AttentionShape& shape : shapes) {
      run_attention(options, shape, dtype, false, report);
      if (!shape.decodes()) run_attention(options, shape, dtype, true, report);
    }
  }
}

}  // namespace tenon::bench
