// SPDX-License-Identifier: Apache-2.0
#include "models/open.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/adapter.h"
#include "models/base_stream.h"
#include "models/unbacked_weights.h"

namespace tenon {
namespace {

void draw(Model& model, DType dtype, const Opening& opening) {
  draw_weights(model, 1);
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    const DType wanted = parameter.vector      ? DType::kF32
                         : parameter.trainable ? opening.trained
                                               : dtype;
    if (wanted != DType::kF32)
      parameter.value = cast(parameter.value, wanted, MemoryKind::kWeights);
    if (parameter.trainable) require_grad(parameter.value, opening.gradients);
  });
}

}  // namespace

OpenedModel open_model(const Opening& opening) {
  const std::string where = opening.model.string();
  OpenedModel opened;
  const bool bare = opening.drawn || opening.unbacked;
  const Json config = bare ? parse_json_file(where) : Json();
  opened.model = bare ? build_model(config, shown(where)) : build_model(where);
  Model& model = *opened.model;
  if (opening.check) opening.check(model);
  model.visit_parameters(
      [&](const std::string&, Parameter& parameter) { parameter.trainable = opening.train_base; });
  const LoadOptions loading{.quantization = opening.quantization,
                            .trained = opening.trained,
                            .gradients = opening.gradients};
  if (opening.drawn) {
    draw(model, *opening.drawn, opening);
  } else if (opening.unbacked) {
    opened.weights =
        load_weights(model, unbacked_weights(model, stated_dtype(config), opening.model), loading);
  } else {
    opened.weights = load_weights(model, opening.model, loading);
  }
  if (opening.adapt) opening.adapt(model);
  place(model, opening.device, opening.activations);
  if (opening.stream && opening.device == Device::kCPU)
    model.stream = std::make_shared<const BaseStream>(model);
  return opened;
}

std::function<void(Model&)> frozen_adapter(const std::filesystem::path& folder) {
  if (folder.empty()) return {};
  return [folder](Model& model) { read_adapter(model, folder, false); };
}

}  // namespace tenon
