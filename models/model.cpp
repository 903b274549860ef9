// SPDX-License-Identifier: Apache-2.0
#include "models/model.h"

#include "core/error.h"

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

Tensor forward(const Model& model, const Context& context, const RunOptions& options) {
  const auto hook = [&](const std::function<void(int64_t)>& f, int64_t i) {
    if (f) f(i);
  };
  static const BlockHooks none;
  const BlockHooks& hooks = options.hooks != nullptr ? *options.hooks : none;
  Tensor x = model.embed(context);
  for (int64_t i = 0; i < model.blocks(); ++i) {
    hook(hooks.before_block, i);
    if (options.checkpoint_activations) {
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
