// SPDX-License-Identifier: Apache-2.0
#include "comm/mesh.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace tenon {

Mesh::Mesh(Communicator& world, std::string_view text) : world_(world) {
  const auto refuse = [&](const std::string& expected) {
    fail_input("mesh \"{}\": expected {}", printable(text), expected);
  };
  int64_t ranks = 1;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const size_t equals = std::min(item.find('='), item.size());
    Axis axis = {.name = std::string(item.substr(0, equals))};
    const char* number = item.data() + std::min(item.size(), equals + 1);
    const auto [end, error] = std::from_chars(number, item.data() + item.size(), axis.size);
    if (axis.name.empty() || error != std::errc() || end != item.data() + item.size() ||
        axis.size < 1 || (rest.empty() && text.back() == ',')) {
      refuse(fmt::format("axes like \"dp=2,tp=3\", got \"{}\"", printable(item)));
    }
    if (find(axis.name) != nullptr)
      refuse(fmt::format("each axis once, got \"{}\" again", printable(axis.name)));
    ranks *= axis.size;
    if (ranks > world.size()) break;
    axes_.push_back(axis);
  }
  if (ranks != world.size()) {
    refuse(fmt::format("sizes that multiply to the number of ranks, {}", world.size()));
  }

  int stride = 1;
  for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
    axis->stride = stride;
    axis->coord = world.rank() / stride % axis->size;
    stride *= axis->size;
  }
  for (const Axis& axis : axes_) axes({axis.name});
}

const Mesh::Axis* Mesh::find(const std::string& name) const {
  const auto found =
      std::find_if(axes_.begin(), axes_.end(), [&](const Axis& axis) { return axis.name == name; });
  return found == axes_.end() ? nullptr : &*found;
}

int Mesh::size(const std::string& name) const {
  return find(name) == nullptr ? 1 : find(name)->size;
}
int Mesh::coord(const std::string& name) const {
  return find(name) == nullptr ? 0 : find(name)->coord;
}

Communicator& Mesh::axis(const std::string& name) {
  std::unique_ptr<Communicator>& group = groups_[name];
  if (group == nullptr)
    group = make_self(world_.describe());  // not in the mesh's text: nobody else is asked
  return *group;
}

Communicator& Mesh::axes(const std::vector<std::string>& names) {
  std::string joined;
  int color = world_.rank();  // that of the group's first rank, whose coordinates on `names` are 0
  for (const Axis& axis : axes_) {
    if (std::find(names.begin(), names.end(), axis.name) == names.end()) continue;
    joined += (joined.empty() ? "" : "+") + axis.name;
    color -= axis.coord * axis.stride;
  }
  std::unique_ptr<Communicator>& group = groups_[joined];
  if (group == nullptr) group = world_.split(color, world_.rank(), joined);
  return *group;
}

}  // namespace tenon
