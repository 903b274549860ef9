// SPDX-License-Identifier: Apache-2.0
#include "models/path_pattern.h"

#include <algorithm>

namespace tenon {
namespace {

// For every node and every position of a text: the positions that the node can end at.
class Matcher {
 public:
  using Node = PatternNode;
  using Kind = Node::Kind;

  Matcher(const std::vector<Node>& nodes, std::string_view text)
      : nodes_(nodes), text_(text), ends_(nodes.size()) {}

  bool matches() { return ends(static_cast<int>(nodes_.size()) - 1, 0)[text_.size()]; }

 private:
  using Places = std::vector<bool>;  // by position; empty: not looked at yet

  const Places& ends(int index, size_t at) {
    std::vector<Places>& known = ends_[static_cast<size_t>(index)];
    if (known.empty()) known.resize(text_.size() + 1);
    if (known[at].empty()) known[at] = find(nodes_[static_cast<size_t>(index)], at);
    return known[at];
  }

  Places none() const { return Places(text_.size() + 1, false); }
  Places only(size_t at) const {
    Places places = none();
    places[at] = true;
    return places;
  }
  static bool any(const Places& places) {
    return std::find(places.begin(), places.end(), true) != places.end();
  }

  // Where `index` ends that begins at one of `from`.
  Places ends_of(int index, const Places& from) {
    Places all = none();
    const Node& node = nodes_[static_cast<size_t>(index)];
    for (size_t at = 0; at < from.size(); ++at) {
      if (!from[at]) continue;
      if (node.kind == Kind::kLetter) {  // most of a pattern: not worth keeping
        if (is_letter_of(node, at)) all[at + 1] = true;
        continue;
      }
      const Places& one = ends(index, at);
      for (size_t i = at; i < one.size(); ++i) all[i] = all[i] || one[i];
    }
    return all;
  }

  Places find(const Node& node, size_t at) {
    switch (node.kind) {
      case Kind::kLetter: return is_letter_of(node, at) ? only(at + 1) : none();
      case Kind::kSequence: {
        Places places = only(at);
        for (const int child : node.children) places = ends_of(child, places);
        return places;
      }
      case Kind::kChoice: {
        Places places = none();
        for (const int child : node.children) add(places, ends(child, at));
        return places;
      }
      case Kind::kRepeat: return repeat(node, at);
      case Kind::kStart: return at == 0 ? only(at) : none();
      case Kind::kEnd: return at == text_.size() ? only(at) : none();
      case Kind::kEdge: {
        const bool before = at > 0 && is_word_letter(text_[at - 1]);
        const bool behind = at < text_.size() && is_word_letter(text_[at]);
        return (before != behind) != node.negated ? only(at) : none();
      }
      case Kind::kAhead: return any(ends(node.children[0], at)) != node.negated ? only(at) : none();
      case Kind::kBehind: return behind(node, at) != node.negated ? only(at) : none();
    }
    return none();
  }

  static void add(Places& to, const Places& more) {
    for (size_t i = 0; i < to.size(); ++i) to[i] = to[i] || more[i];
  }

  bool is_letter_of(const Node& node, size_t at) const {
    if (at == text_.size()) return false;
    const auto code = static_cast<unsigned char>(text_[at]);
    return code < node.letters.size() && node.letters[code];
  }

  // From each round only what is new goes on: what was reached before has gone on already. The
  // rounds that must be end where they change nothing any more.
  Places repeat(const Node& node, size_t at) {
    const int child = node.children[0];
    Places now = only(at);
    for (int64_t round = 0; round < node.least; ++round) {
      Places then = ends_of(child, now);
      if (then == now) break;
      now = std::move(then);
    }
    Places reached = now;
    for (int64_t round = node.least; round < node.most && any(now); ++round) {
      now = ends_of(child, now);
      for (size_t i = 0; i < now.size(); ++i) now[i] = now[i] && !reached[i];
      add(reached, now);
    }
    return reached;
  }

  bool behind(const Node& node, size_t at) {
    const int child = node.children[0];
    const int64_t width = nodes_[static_cast<size_t>(child)].shortest;
    if (width > static_cast<int64_t>(at)) return false;
    return ends(child, at - static_cast<size_t>(width))[at];
  }

  const std::vector<Node>& nodes_;
  std::string_view text_;
  std::vector<std::vector<Places>> ends_;  // by node and position
};

}  // namespace

bool PathPattern::matches(std::string_view path) const { return Matcher(nodes_, path).matches(); }

}  // namespace tenon
