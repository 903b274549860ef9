// SPDX-License-Identifier: Apache-2.0
// A Model is an embedding, a list of blocks and a head: the one virtual interface of this folder.
// Every memory or parallel technique cuts a model between blocks, in the one loop `forward` below,
// which calls the hooks around each block; families never see it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "models/kv_cache.h"
#include "models/module.h"

namespace tenon {

// What a forward pass sees besides the weights. ids, positions and doc_start: (B, T) int32, on the
// model's device.
struct Context {
  Tensor ids, positions;
  Tensor doc_start;            // undefined: every row is one document
  DType dtype = DType::kF32;   // of the activations
  bool training = false;       // dropout happens
  bool model_dropout = false;  // the checkpoint's own dropouts, besides the adapter's
  uint64_t seed = 0;
  uint32_t step = 0;
  uint64_t sequence0 = 0;    // global index in the step of the batch's first sequence
  int64_t longest = 0;       // 1 + the largest position; 0: T, after what the cache holds
  KvCache* cache = nullptr;  // generation: attend to it and append to it
};

// Purposes of random streams (RandomStream::purpose); dropout sites are kDropout + 16 * block +
// site, those of the rounding of weights kRounding + the number of the parameter.
enum class Purpose : uint32_t {
  kInit = 1,
  kAdapterInit = 2,
  kSample = 4,
  kDropout = 1024,
  kRounding = 1 << 24
};

class BaseStream;

struct BlockHooks {
  std::function<void(int64_t)> before_block, after_block;
};

class Model {
 public:
  using ParameterVisitor = std::function<void(const std::string& path, Parameter& parameter)>;
  using LinearVisitor = std::function<void(const std::string& path, Linear& linear)>;

  virtual ~Model() = default;

  virtual const char* family() const = 0;  // "gpt2"
  virtual int64_t blocks() const = 0;
  virtual int64_t vocabulary() const = 0;
  virtual int64_t max_positions() const = 0;  // longest sequence
  // That number with what sets it: "64 positions".
  virtual std::string positions_text() const;
  virtual int64_t cache_channels() const = 0;  // G D: width of a cached key

  virtual Tensor embed(const Context& context) const = 0;  // (B, T, C)
  virtual Tensor block(int64_t i, const Tensor& x,
                       const Context& context) const = 0;  // (B, T, C) -> (B, T, C)
  // The last norm, and whatever else stands before the head.
  virtual Tensor finish(const Tensor& x, const Context& context) const = 0;
  virtual const Parameter& head() const = 0;  // (V, C)
  // Gives a tied head a Parameter of its own, "lm_head.weight", that looks at the embedding's bytes:
  // an adapter trains one of the two apart from the other. Nothing where it has one.
  virtual void untie_head();

  // Names are those of the Hugging Face class; a tied head is visited once, as the embedding.
  virtual void visit_parameters(const ParameterVisitor& f) = 0;
  virtual void visit_linears(const LinearVisitor& f) = 0;
  // Standard deviation of a parameter's random initial values, as the family's own code draws them.
  virtual double init_std(const std::string& path) const = 0;
  // The prefix that some checkpoints leave out ("transformer.").
  virtual const char* optional_prefix() const = 0;
  // The linears that get an adapter where nothing else is said: PEFT's own choice for the family.
  virtual std::vector<std::string> default_targets() const = 0;
  // PEFT's fan_in_fan_out: weights lie (in, out).
  virtual bool fan_in_fan_out() const = 0;

  // Told of each block that runs, where the base is streamed: forward() and its backward do so.
  std::shared_ptr<const BaseStream> stream;
};

// Where a head of its own lies.
inline constexpr const char* kHeadModule = "lm_head";
inline constexpr const char* kHeadWeight = "lm_head.weight";

// The path of the token embedding that is the head as well; "" where the head is its own.
std::string tied_path(Model& model);
inline bool has_tied_head(Model& model) { return !tied_path(model).empty(); }

// The model that config.json describes, shapes only. Throws Error(kInput) naming file and field.
std::unique_ptr<Model> build_model(const std::string& folder);
std::unique_ptr<Model> build_model(const Json& config, const std::string& where);

struct RunOptions {
  // Blocks whose activations are dropped and computed again in the backward pass: 0 none, k every
  // k-th from the last one back.
  int64_t recompute_every = 0;
  const BlockHooks* hooks = nullptr;
};

// 1 + the largest position that the context's tokens have.
int64_t longest(const Context& context);

// The hidden states before the head, (B, T, C).
Tensor forward(const Model& model, const Context& context, const RunOptions& options = {});

// Where the model's weights lie, and so where it runs.
inline Device device_of(const Model& model) { return model.head().value.device(); }

// Number of elements of the parameters for which `keep` holds.
int64_t count_parameters(Model& model, const std::function<bool(const Parameter&)>& keep);

}  // namespace tenon
