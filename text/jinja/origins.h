// SPDX-License-Identifier: Apache-2.0
// Where text comes from: the runs of a text that the template wrote, and those that came with a
// message or another variable. Origins go through everything that makes text from text, so that
// what was written says of each byte whose it is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tenon::jinja {

struct Origin {
  enum class Kind : uint8_t {
    kTemplate,  // a literal of the template, a number that it counted, a variable of its own
    kMessage,   // a message's field other than its role, keys and what JSON puts between included
    kRole,      // a message's field "role"
    kOther,     // another variable that people fill, such as tools
  };
  Kind kind = Kind::kTemplate;
  uint32_t number = 0;     // kMessage, kRole: the message's, from 0; kTemplate: the literal's, or 0
  uint32_t iteration = 0;  // of a loop in which it was written (see Written::owners); 0: none
  uint32_t generation = 0;  // of the {% generation %} block in which it was written; 0: none

  friend bool operator==(const Origin&, const Origin&) = default;
};

// Bytes up to `end`, from where the run before ends. A run may be empty: a message's empty text
// leaves one where it was written.
struct Run {
  size_t end;
  Origin origin;
};

// The origins of a text's bytes. Most texts have one origin, which costs no memory of its own.
class Origins {
 public:
  Origins() = default;  // of no bytes yet; as those of a text: the template's
  explicit Origins(const Origin& all) : only_(all), has_only_(true) {}

  // Says that `count` bytes from here come behind the first `size`.
  void append(size_t size, size_t count, const Origin& origin) {
    if (count == 0 && origin.kind != Origin::Kind::kMessage) return;
    if (runs_.empty()) {
      if (!has_only_) {
        only_ = origin;
        has_only_ = true;
      }
      if (only_ == origin) return;
      runs_.push_back({size, only_});
    }
    if (runs_.back().origin == origin) {
      runs_.back().end = size + count;
    } else {
      runs_.push_back({size + count, origin});
    }
  }

  bool is_one() const { return runs_.empty(); }
  const Origin& first() const { return runs_.empty() ? only_ : runs_.front().origin; }
  size_t held() const { return runs_.capacity() * sizeof(Run); }

  // visit(begin, end, origin) of the runs within [begin, end), cut to it: also of empty ones at its
  // ends. Where it is empty itself, of the runs that it touches.
  template <class Visit>
  void each(size_t begin, size_t end, Visit&& visit) const {
    if (runs_.empty()) return visit(begin, end, only_);
    auto run = std::lower_bound(runs_.begin(), runs_.end(), begin,
                                [](const Run& one, size_t at) { return one.end < at; });
    for (size_t at = run == runs_.begin() ? 0 : (run - 1)->end; run != runs_.end() && at <= end;
         at = (run++)->end) {
      const size_t from = std::max(at, begin), to = std::min(run->end, end);
      if (from < to || run->end == at || begin == end) visit(from, to, run->origin);
    }
  }

 private:
  Origin only_;  // of all bytes where runs_ is empty
  bool has_only_ = false;
  std::vector<Run> runs_;  // neighbours differ
};

}  // namespace tenon::jinja
