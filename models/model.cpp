// SPDX-License-Identifier: Apache-2.0
#include "models/model.h"

#include "core/error.h"
#include "models/base_stream.h"

namespace tenon {

void Model::untie_head() {
  fail_input("{}: the head is tied to the embedding and cannot be trained apart from it", family());
}

std::string Model::positions_text() const { return fmt::format("{} positions", max_positions()); }

std::string tied_path(Model& model) {
  std::string tied;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (&parameter == &model.head() && path != kHeadWeight) tied = path;
  });
  return tied;
}

namespace {

// Around block i, forward and backward. What is marked before it runs after its backward.
class StreamedBlock {
 public:
  StreamedBlock(const Model& model, int64_t i) : stream_(model.stream), i_(i) {
    if (stream_ == nullptr) return;
    stream_->begin(i, i + 1);
    if (Tape* tape = current_tape()) tape->mark([stream = stream_, i] { stream->end(i); });
  }
  ~StreamedBlock() {
    if (stream_ == nullptr) return;
    stream_->end(i_);
    if (Tape* tape = current_tape())
      tape->mark([stream = stream_, i = i_] { stream->begin(i, i - 1); });
  }
  StreamedBlock(const StreamedBlock&) = delete;
  StreamedBlock& operator=(const StreamedBlock&) = delete;

 private:
  std::shared_ptr<const BaseStream> stream_;
  int64_t i_;
};

}  // namespace

Tensor forward(const Model& model, const Context& context, const RunOptions& options) {
  const auto hook = [&](const std::function<void(int64_t)>& f, int64_t i) {
    if (f) f(i);
  };
  static const BlockHooks none;
  const BlockHooks& hooks = options.hooks != nullptr ? *options.hooks : none;
  Tensor x = model.embed(context);
  for (int64_t i = 0; i < model.blocks(); ++i) {
    const StreamedBlock streamed(model, i);
    hook(hooks.before_block, i);
    const int64_t from_end = model.blocks() - 1 - i;
    if (options.recompute_every > 0 && from_end % options.recompute_every == 0) {
      // The context is copied: backward runs the block again after the caller's is gone.
      x = recompute([&model, i, context](const Tensor& in) { return model.block(i, in, context); },
                    x);
    } else {
      x = model.block(i, x, context);
    }
    hook(hooks.after_block, i);
  }
  return model.finish(x, context);
}

int64_t longest(const Context& context) {
  if (context.longest > 0) return context.longest;
  return context.cache != nullptr ? context.cache->longest() : context.ids.dim(1);
}

int64_t count_parameters(Model& model, const std::function<bool(const Parameter&)>& keep) {
  int64_t count = 0;
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    if (keep(parameter)) count += parameter.shape.numel();
  });
  return count;
}

}  // namespace tenon
