// SPDX-License-Identifier: Apache-2.0
// What a run found: a line for people as soon as it is known, or all of it as one JSON document.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/machine.h"
#include "bench/options.h"
#include "bench/timing.h"
#include "core/launch.h"

namespace tenon::bench {

using OrderedJson = nlohmann::ordered_json;

struct PeerFigure {
  std::string name;
  Spread time;
};

// One thing that was timed.
struct Line {
  std::string group, name;  // "gemm", "gpt2.qkv forward M=512"
  std::string size;         // as --shape takes it
  DType dtype = DType::kF32;
  Spread time;
  LaunchWork work;
  double error = 0;  // the largest found, as a share of its bound; negative: not of this line
  double copy = 0;   // GB/s of a copy that ran in turn with this; 0: the machine's counts
  std::vector<PeerFigure> peers;
  std::string note;       // what else there is to say
  OrderedJson more = {};  // what else there is to read: extents, options
};

class Report {
 public:
  // `command` is what was asked for, as one would type it.
  Report(const Options& options, std::string command);

  // Measures the machine and says what it is, the first time: when a group has understood its
  // options, or at the latest with the first line.
  void begin();
  void add(const Line& line);
  // Something to say that is no line: why one is left out, a table.
  void say(const std::string& text);
  void skip(const std::string& group, const std::string& what, const std::string& why);
  // A part of the JSON document of its own.
  void attach(const std::string& key, OrderedJson value);
  // The geometric means and the smallest of the ratios to each peer, and the document.
  void finish();

 private:
  struct Ratios {
    std::string peer;
    std::vector<double> values;
    size_t smallest = 0;
    std::vector<std::string> lines;
  };
  void print(const std::string& text);
  void note_ratio(const std::string& peer, double ratio, const std::string& line);

  const Options& options_;
  const std::string command_;
  bool begun_ = false;
  Machine machine_;
  OrderedJson document_;
  std::vector<Ratios> ratios_;
};

}  // namespace tenon::bench
