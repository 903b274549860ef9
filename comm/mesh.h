// SPDX-License-Identifier: Apache-2.0
// A Mesh gives the ranks of a world coordinates on named axes, outermost first: in "dp=2,tp=3" rank
// 4 is dp 1, tp 1. An axis that is not in the text has size 1, so nobody asks whether it is there.
// (Axis of a mesh, dim of a tensor.)
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"

namespace tenon {

class Mesh {
 public:
  // A collective call: splits the world once for each axis. The text may be empty in a world of
  // one. Throws Error(kInput) unless the text is a list of different axes whose sizes multiply to
  // world.size().
  Mesh(Communicator& world, std::string_view text);

  int size(const std::string& name) const;
  int coord(const std::string& name) const;  // of this rank
  // The ranks that differ from this one on this axis only, by coordinate.
  Communicator& axis(const std::string& name);
  // The ranks that differ from this one on these axes only, in the mesh's order; a collective call
  // of the world.
  Communicator& axes(const std::vector<std::string>& names);

 private:
  struct Axis {
    std::string name;
    int size = 1, stride = 1, coord = 0;
  };
  const Axis* find(const std::string& name) const;

  Communicator& world_;
  std::vector<Axis> axes_;
  std::map<std::string, std::unique_ptr<Communicator>>
      groups_;  // by name, or names joined with "+"
};

}  // namespace tenon
