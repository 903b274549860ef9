// SPDX-License-Identifier: Apache-2.0
#include "models/weight_check.h"

#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/finite.h"
#include "models/adapter_files.h"
#include "models/stored_weights.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

struct Place {
  std::string path;  // of the parameter
  int64_t index;     // of the element
  double value;
  DType dtype;
  bool of_adapter;
};

std::optional<Place> find(Model& model) {
  std::optional<Place> place;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (place || parameter.quantized.defined()) return;  // those were checked when they were read
    const Tensor value = parameter.value.to(Device::kCPU, MemoryKind::kWorkspace);
    const int64_t index = first_not_finite(value.raw(), value.numel(), value.dtype());
    if (index < 0) return;
    place =
        Place{.path = path,
              .index = index,
              .value = static_cast<double>(element_of(value.raw(), index, value.dtype())),
              .dtype = value.dtype(),
              .of_adapter = parameter.adapter || parameter.saved || parameter.carried.defined()};
  });
  return place;
}

// Calls f(entry) with the tensor that the value was read from, where it can be found still.
void with_entry(Model& model, const Place& place, const fs::path& folder, const fs::path& adapter,
                const std::function<void(const TensorEntry&)>& f) {
  try {
    if (place.of_adapter) {
      if (adapter.empty()) return;
      const AdapterFile file = AdapterFile::open(adapter);
      if (const TensorEntry* entry = file.find(place.path)) f(*entry);
      return;
    }
    const WeightFiles files = WeightFiles::open(folder);
    if (const TensorEntry* entry = StoredWeights::of(model, files).find(place.path)) f(*entry);
  } catch (const Error&) {
    // The files are not what they were: the parameter's name alone is told.
  }
}

}  // namespace

std::string beyond_text(DType to) {
  return fmt::format("more than {} holds ({})", name_of(to), number_text(largest_of(to)));
}

std::string origin_text(const TensorEntry& entry, int64_t index, DType to) {
  const auto value = static_cast<double>(element_of(entry.data, index, *entry.dtype));
  const std::string file = shown(entry.file->path());
  if (!std::isfinite(value)) return fmt::format("it is {} in {}", number_text(value), file);
  return fmt::format("it is {} in {}, {}", number_text(value), file, beyond_text(to));
}

std::string not_finite_weight(Model& model, const fs::path& folder, const fs::path& adapter) {
  const std::optional<Place> place = find(model);
  if (!place) return "";
  std::string line = fmt::format("{}: a value is {}", place->path, number_text(place->value));
  with_entry(model, *place, folder, adapter, [&](const TensorEntry& entry) {
    if (place->index >= entry.elements() || !entry.dtype || !is_float(*entry.dtype)) return;
    const auto stored = static_cast<double>(element_of(entry.data, place->index, *entry.dtype));
    const std::string at = fmt::format("{}: tensor \"{}\": element {} is {}",
                                       shown(entry.file->path()), printable(entry.name),
                                       place_text(entry.shape, place->index), number_text(stored));
    if (!std::isfinite(stored)) {
      line = at;
    } else if (std::fabs(stored) > largest_of(place->dtype)) {
      line = fmt::format("{}, {}", at, beyond_text(place->dtype));
    }
  });
  return line;
}

void check_finite(Model& model, const fs::path& folder, const fs::path& adapter) {
  const std::string line = not_finite_weight(model, folder, adapter);
  if (!line.empty()) fail(Exit::kNumeric, "{}", line);
}

int64_t weight_bytes(Model& model) {
  int64_t bytes = 0;
  model.visit_parameters(
      [&](const std::string&, Parameter& parameter) { bytes += parameter.weight().bytes(); });
  return bytes;
}

}  // namespace tenon
