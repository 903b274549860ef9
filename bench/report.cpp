// SPDX-License-Identifier: Apache-2.0
#include "bench/report.h"

#include <fmt/core.h>

#include <cmath>
#include <cstdio>
#include <utility>

#include "bench/peer.h"
#include "core/error.h"
#include "tools/version.h"

namespace tenon::bench {
namespace {

OrderedJson json_of(const Spread& s) {
  return {
      {"ms", s.median * 1e3}, {"ms_low", s.low * 1e3}, {"ms_high", s.high * 1e3}, {"runs", s.runs}};
}

OrderedJson json_of(const Machine& m) {
  return {{"device", m.device},
          {"table", m.table},
          {"cpu", m.cpu},
          {"cores", m.cores},
          {"threads", m.threads},
          {"l1_bytes", m.l1},
          {"l2_bytes", m.l2},
          {"l3_bytes", m.l3},
          {"memory_bytes", m.memory},
          {"peak_of", m.isa},
          {"gflops_1_thread", m.fma_1},
          {"gflops", m.fma},
          {"bf16_dot_gflops", m.bf16_dot},
          {"int8_dot_gops", m.int8_dot},
          {"copy_gbps_1_thread", m.copy_1},
          {"copy_gbps", m.copy},
          {"peers", m.peers}};
}

std::string cache_text(int64_t bytes) {
  return bytes >= 1 << 20 ? fmt::format("{} MiB", bytes >> 20) : fmt::format("{} KiB", bytes >> 10);
}

std::string machine_text(const Machine& m) {
  std::string text = fmt::format(
      "{}; {}, {} of {} cores, L1 {} L2 {} L3 {}\n"
      "peak ({}): {:.1f} GFLOP/s on 1 thread, {:.1f} on {}; copy {:.1f} and {:.1f} GB/s",
      m.cpu, m.device, m.threads, m.cores, cache_text(m.l1), cache_text(m.l2), cache_text(m.l3),
      m.isa, m.fma_1, m.fma, m.threads, m.copy_1, m.copy);
  if (m.bf16_dot > 0) text += fmt::format("; bf16 dot {:.1f} GFLOP/s", m.bf16_dot);
  if (m.int8_dot > 0) text += fmt::format("; int8 dot {:.1f} GOP/s", m.int8_dot);
  std::string peers;
  for (const std::string& peer : m.peers) peers += (peers.empty() ? "" : ", ") + peer;
  return text + fmt::format("\npeers: {}", peers.empty() ? "none" : peers);
}

std::string text_of(const Line& line, double peak, double copy) {
  std::string text = fmt::format("{:9} {:34} {:24} {:4} {:10.3f} ms [{:.3f}..{:.3f}]", line.group,
                                 line.name, line.size, name_of(line.dtype), line.time.median * 1e3,
                                 line.time.low * 1e3, line.time.high * 1e3);
  if (line.work.operations > 0) {
    const double rate = line.work.operations / line.time.median * 1e-9;
    text += fmt::format(" {:8.1f} GFLOP/s {:5.1f} %", rate, 100 * rate / peak);
  }
  if (line.work.bytes > 0) {
    const double rate = line.work.bytes / line.time.median * 1e-9;
    text += fmt::format(" {:6.1f} GB/s {:5.1f} %", rate, 100 * rate / copy);
    if (line.copy > 0) text += fmt::format(" of {:.1f}", copy);
  }
  if (line.error >= 0) text += fmt::format("  error {:.2f} of its bound", line.error);
  for (const PeerFigure& peer : line.peers)
    text += fmt::format("  {} {:.3f} ms {:.2f}x", peer.name, peer.time.median * 1e3,
                        peer.time.median / line.time.median);
  return line.note.empty() ? text : text + "  " + line.note;
}

}  // namespace

Report::Report(const Options& options, std::string command)
    : options_(options), command_(std::move(command)) {
  document_ = {{"version", version_text()},
               {"command", command_},
               {"machine", nullptr},
               {"lines", OrderedJson::array()},
               {"skipped", OrderedJson::array()}};
}

void Report::begin() {
  if (std::exchange(begun_, true)) return;
  machine_ = measure_machine(options_.device, options_.dtypes.front());
  for (const Peer& peer : peers_of(options_.device)) machine_.peers.push_back(peer.version);
  document_["machine"] = json_of(machine_);
  print(command_ + "\n" + version_text() + "\n" + machine_text(machine_));
}

// In JSON, stdout is for the document alone.
void Report::print(const std::string& text) {
  begin();
  fmt::print(options_.json ? stderr : stdout, "{}\n", text);
  std::fflush(stdout);
}

void Report::say(const std::string& text) { print(text); }

void Report::attach(const std::string& key, OrderedJson value) {
  document_[key] = std::move(value);
}

void Report::skip(const std::string& group, const std::string& what, const std::string& why) {
  document_["skipped"].push_back({{"group", group}, {"name", what}, {"why", why}});
  print(fmt::format("{:9} {:34} left out: {}", group, what, why));
}

void Report::note_ratio(const std::string& peer, double ratio, const std::string& line) {
  for (Ratios& each : ratios_) {
    if (each.peer != peer) continue;
    if (ratio < each.values[each.smallest]) each.smallest = each.values.size();
    each.values.push_back(ratio);
    each.lines.push_back(line);
    return;
  }
  ratios_.push_back({peer, {ratio}, 0, {line}});
}

void Report::add(const Line& line) {
  begin();
  const double peak = machine_.peak(line.dtype), copy = line.copy > 0 ? line.copy : machine_.copy;
  OrderedJson json = {{"group", line.group},
                      {"name", line.name},
                      {"size", line.size},
                      {"dtype", name_of(line.dtype)}};
  json.update(json_of(line.time));
  if (line.work.operations > 0) {
    const double rate = line.work.operations / line.time.median * 1e-9;
    json["gflops"] = rate;
    json["share_of_peak"] = rate / peak;
  }
  if (line.work.bytes > 0) {
    const double rate = line.work.bytes / line.time.median * 1e-9;
    json["gbps"] = rate;
    json["share_of_copy"] = rate / copy;
    json["copy_gbps"] = copy;
  }
  if (line.error >= 0) json["error_of_bound"] = line.error;
  if (!line.more.empty()) json.update(line.more);
  json["peers"] = OrderedJson::array();
  for (const PeerFigure& peer : line.peers) {
    OrderedJson figure = {{"name", peer.name}};
    figure.update(json_of(peer.time));
    figure["ratio"] = peer.time.median / line.time.median;
    json["peers"].push_back(figure);
    note_ratio(peer.name, peer.time.median / line.time.median,
               fmt::format("{} {} {}", line.name, line.size, name_of(line.dtype)));
  }
  document_["lines"].push_back(json);
  print(text_of(line, peak, copy));
}

void Report::finish() {
  begin();
  OrderedJson summary = OrderedJson::array();
  for (const Ratios& each : ratios_) {
    double logs = 0;
    for (const double ratio : each.values) logs += std::log(ratio);
    const double mean = std::exp(logs / static_cast<double>(each.values.size()));
    const double smallest = each.values[each.smallest];
    summary.push_back({{"peer", each.peer},
                       {"lines", each.values.size()},
                       {"geometric_mean", mean},
                       {"smallest", smallest},
                       {"smallest_at", each.lines[each.smallest]}});
    print(fmt::format("beside {}: {:.2f}x in the geometric mean of {} lines, smallest {:.2f}x ({})",
                      each.peer, mean, each.values.size(), smallest, each.lines[each.smallest]));
  }
  document_["summary"] = summary;
  if (options_.json) fmt::print("{}\n", document_.dump(1));
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    fail(Exit::kIo, "stdout: cannot be written");
}

}  // namespace tenon::bench
