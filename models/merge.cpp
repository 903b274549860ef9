// SPDX-License-Identifier: Apache-2.0
#include "models/merge.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/backend.h"
#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "core/finite.h"
#include "core/safetensors.h"
#include "models/adapter.h"
#include "models/open.h"
#include "models/weight_check.h"
#include "models/weights.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// Stored rows of a weight that are worked on at a time: their fp32 copy stays in the cache.
constexpr int64_t kRows = 64;

Tensor fp32_rows(const Tensor& matrix, int64_t begin, int64_t end) {
  const Tensor rows = matrix.rows(begin, end);
  return rows.dtype() == DType::kF32 ? rows.clone(MemoryKind::kWorkspace)
                                     : cast(rows, DType::kF32, MemoryKind::kWorkspace);
}

// wide += scale B A for rows begin.. of the weight as it is stored: rows of B, or of A^T for a
// Conv1D.
void add_product(const Linear& linear, int64_t begin, const Tensor& wide, float scale) {
  const Lora& lora = *linear.lora;
  const int64_t rank = lora.a.shape[0], in = linear.in(), out = linear.out();
  const float *a = lora.a.value.data<float>(), *b = lora.b.value.data<float>();
  const bool out_in = linear.layout == WeightLayout::kOutIn;
  MatmulArgs args{.c = wide.raw(),
                  .c_stride = wide.dim(1),
                  .m = wide.dim(0),
                  .n = wide.dim(1),
                  .k = rank,
                  .alpha = scale,
                  .accumulate = true};
  if (out_in) {
    args.a = {.data = b + begin * rank, .stride = rank};
    args.b = {.data = a, .stride = in};
  } else {
    args.a = {.data = a + begin, .stride = in, .transposed = true};
    args.b = {.data = b, .stride = rank, .transposed = true};
  }
  TENON_CHECK(wide.dim(1) == (out_in ? in : out), "[merge] rows of {} for a weight of {} x {}",
              wide.dim(1), out, in);
  kernels(Device::kCPU).matmul(args);
}

// rows = W' of DoRA: the lengths of W + scale B A, which `rows` holds, become the trained ones.
void scale_rows(const Linear& linear, int64_t begin, const Tensor& rows) {
  const Dora& dora = *linear.lora->dora;
  const float *m = dora.magnitude.value.data<float>(), *n = dora.norms.data<float>();
  const bool out_in = linear.layout == WeightLayout::kOutIn;
  for (int64_t r = 0; r < rows.dim(0); ++r) {
    for (int64_t c = 0; c < rows.dim(1); ++c) {
      const int64_t o = out_in ? begin + r : c;
      rows.data<float>()[r * rows.dim(1) + c] *= n[o] > 0 ? m[o] / n[o] : 0;
    }
  }
}

// to += factor (from - less), element by element; `less` may be undefined.
void add_difference(const Tensor& to, const Tensor& from, const Tensor& less, double factor) {
  for (int64_t i = 0; i < to.numel(); ++i) {
    const double base = less.defined() ? static_cast<double>(less.data<float>()[i]) : 0;
    const double change = static_cast<double>(from.data<float>()[i]) - base;
    float& value = to.data<float>()[i];
    value = static_cast<float>(static_cast<double>(value) + factor * change);
  }
}

// What one adapter makes of rows of a weight, added to `sum` times the adapter's weight.
void add_adapter(const Linear& linear, int64_t begin, const Tensor& stored, double weight,
                 const Tensor& sum) {
  const float scale = linear.lora->scale;
  if (!linear.lora->dora) {
    add_product(linear, begin, sum, static_cast<float>(static_cast<double>(scale) * weight));
    return;
  }
  const Tensor changed = stored.clone(MemoryKind::kWorkspace);
  add_product(linear, begin, changed, scale);
  scale_rows(linear, begin, changed);
  add_difference(sum, changed, stored, weight);
}

std::map<std::string, Parameter*> parameters_of(Model& model) {
  std::map<std::string, Parameter*> all;
  model.visit_parameters([&](const std::string& path, Parameter& p) { all[path] = &p; });
  return all;
}

std::map<std::string, Linear*> linears_of(Model& model) {
  std::map<std::string, Linear*> all;
  model.visit_linears([&](const std::string& path, Linear& linear) { all[path] = &linear; });
  return all;
}

}  // namespace

Merge::Merge(const fs::path& base, const std::vector<WeightedAdapter>& adapters,
             std::optional<DType> dtype)
    : folder_(base),
      dtype_(dtype),
      base_(open_model({.model = base}).model),
      files_(WeightFiles::open(base)) {
  base_->visit_linears([&](const std::string& path, Linear& linear) {
    if (linear.weight.quantized.defined())
      fail_input("{}: {} is in {}: merge into the model that it was made from", shown(base), path,
                 linear.weight.quantized.kind());
  });
  const bool tied = has_tied_head(*base_);
  for (const WeightedAdapter& adapter : adapters) {
    parts_.push_back({open_model({.model = base, .adapt = frozen_adapter(adapter.folder)}).model,
                      adapter.weight, adapter.folder});
    Model& model = *parts_.back().model;
    unties_head_ = unties_head_ || (tied && !has_tied_head(model));
    model.visit_linears([&](const std::string& path, Linear& linear) {
      if (linear.lora && linear.lora->bias && !linear.bias)
        fail_input("{}: {} has a bias (lora_bias), but the base has none there to add it to",
                   shown(adapter.folder), path);
    });
  }
  if (unties_head_) base_->untie_head();
  find_sources(dtype);
}

void Merge::find_sources(std::optional<DType> dtype) {
  const StoredWeights stored = StoredWeights::of(*base_, files_);
  std::vector<std::map<std::string, Parameter*>> parameters;
  std::vector<std::map<std::string, Linear*>> linears;
  for (const Part& part : parts_) {
    parameters.push_back(parameters_of(*part.model));
    linears.push_back(linears_of(*part.model));
  }
  base_->visit_parameters([&](const std::string& path, Parameter& parameter) {
    Source source{.path = path,
                  .base = &parameter,
                  .stored = stored.find(path),
                  .is_bias = path.ends_with(".bias")};
    source.dtype = dtype                      ? *dtype
                   : source.stored != nullptr ? *source.stored->dtype
                                              : parameter.value.dtype();
    const std::string module = path.substr(0, path.rfind('.'));
    for (size_t i = 0; i < parts_.size(); ++i) {
      const auto own = parameters[i].find(path);
      const bool has_own =
          own != parameters[i].end() && (own->second->saved || own->second->carried.defined());
      source.own.push_back(has_own ? own->second : nullptr);
      const auto linear = linears[i].find(module);
      bool adapted = linear != linears[i].end() && linear->second->lora;
      if (adapted && source.is_bias) adapted = linear->second->lora->bias.has_value();
      source.adapted.push_back(adapted ? linear->second : nullptr);
    }
    sources_.push_back(std::move(source));
  });
}

Tensor Merge::value_of(const Source& source, DType dtype) const {
  const Tensor& stored = source.base->value;
  const auto untouched = [](const auto& list) {
    return std::all_of(list.begin(), list.end(), [](const auto* each) { return each == nullptr; });
  };
  if (untouched(source.own) && untouched(source.adapted))
    return cast(stored, dtype, MemoryKind::kWorkspace);
  const Shape& shape = source.base->shape;
  const bool matrix = shape.rank() == 2;
  const int64_t rows = matrix ? shape[0] : 1, columns = shape.numel() / rows;
  const auto as_rows = [&](const Tensor& value) { return value.view({rows, columns}); };
  Tensor merged = Tensor::empty(shape, dtype, MemoryKind::kWorkspace);
  for (int64_t begin = 0; begin < rows; begin += kRows) {
    const int64_t end = std::min(rows, begin + kRows);
    const Tensor base = fp32_rows(as_rows(stored), begin, end);
    const Tensor sum = base.clone(MemoryKind::kWorkspace);
    for (size_t i = 0; i < parts_.size(); ++i) {
      const double weight = parts_[i].weight;
      if (source.own[i] != nullptr)
        add_difference(sum, fp32_rows(as_rows(source.own[i]->value), begin, end), base, weight);
      if (source.adapted[i] == nullptr) continue;
      const Lora& lora = *source.adapted[i]->lora;
      if (source.is_bias) {
        add_difference(sum, lora.bias->value, {}, weight * static_cast<double>(lora.scale));
      } else {
        add_adapter(*source.adapted[i], begin, base, weight, sum);
      }
    }
    as_rows(merged).rows(begin, end).assign(cast(sum, dtype, MemoryKind::kWorkspace));
  }
  return merged;
}

// Where an element came from that is not finite in what is to be written.
std::string Merge::origin_of(const Source& source, int64_t index) const {
  const auto not_finite = [](const Tensor& value) {
    return first_not_finite(value.raw(), value.numel(), value.dtype()) >= 0;
  };
  const Tensor& base = source.base->value;
  const auto before = static_cast<double>(element_of(base.raw(), index, base.dtype()));
  if (source.stored != nullptr && !std::isfinite(before))
    return origin_text(*source.stored, index, source.dtype);
  for (size_t i = 0; i < parts_.size(); ++i) {
    bool broken = source.own[i] != nullptr && not_finite(source.own[i]->value);
    if (const Linear* linear = source.adapted[i]; linear != nullptr) {
      Lora lora = *linear->lora;
      lora.visit([&](const char*, const Parameter& p) { broken = broken || not_finite(p.value); });
    }
    if (broken) return fmt::format("values of {} are so", shown(parts_[i].folder));
  }
  const Tensor merged = value_of(source, DType::kF32);
  return fmt::format("it is {} merged, {}",
                     number_text(static_cast<double>(merged.data<float>()[index])),
                     beyond_text(source.dtype));
}

int64_t Merge::parameters() const {
  int64_t count = 0;
  for (const Source& source : sources_) count += source.base->shape.numel();
  return count;
}

// config.json as it was, but for the dtype and a head that is tied no longer.
void Merge::write_config(const fs::path& folder) const {
  if (!dtype_ && !unties_head_) {
    write_text_atomic(folder / "config.json", read_text(folder_ / "config.json", kJsonFileBytes));
    return;
  }
  nlohmann::ordered_json config = read_config(folder_);
  if (dtype_) state_dtype(config, *dtype_);
  if (unties_head_) config["tie_word_embeddings"] = false;
  write_text_atomic(folder / "config.json", config.dump(2) + "\n");
}

void Merge::write(const fs::path& folder, int64_t max_shard_bytes) const {
  files::make_folders(folder);
  write_config(folder);
  std::vector<TensorToWrite> tensors;
  for (const Source& source : sources_) {
    std::vector<int64_t> dims;
    for (int axis = 0; axis < source.base->shape.rank(); ++axis)
      dims.push_back(source.base->shape[axis]);
    tensors.push_back(
        {.name = source.path,
         .dtype = source.dtype,
         .shape = std::move(dims),
         .data = nullptr,
         .make = [this, &source] { return value_of(source, source.dtype); },
         .origin = [this, &source](int64_t index) { return origin_of(source, index); }});
  }
  write_sharded(folder, tensors, max_shard_bytes);
}

}  // namespace tenon
