// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/shim_run.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <regex>

namespace tenon::test {
namespace {

Environment environment(const Lab& lab, const Fault& fault) {
  Environment all = {{"LD_PRELOAD", TENON_FAULT_SHIM},
                     {"ASAN_OPTIONS", "verify_asan_link_order=0"},
                     {"TENON_SHIM_UNDER", lab.path().string()},
                     {"TMPDIR", lab.path().string()}};
  if (!fault.calls.empty()) all.emplace_back("TENON_SHIM_CALLS", fault.calls);
  if (!fault.at.empty()) {
    all.emplace_back("TENON_SHIM_AT", fault.at);
    all.emplace_back("TENON_SHIM_ERRNO", std::to_string(fault.error));
  }
  return all;
}

}  // namespace

Result with_fault(const Lab& lab, const Words& words, const Fault& fault) {
  return tenon(words, environment(lab, fault));
}

Words recorded(const Lab& lab, const Words& words, const Fault& fault) {
  const TempFolder folder;
  Environment all = environment(lab, fault);
  all.emplace_back("TENON_SHIM_LOG", (folder / "log").string());
  const Result result = tenon(words, all);
  INFO(result.err);
  REQUIRE(result.code == 0);
  const std::string log = get_file(folder / "log");
  return lines(
      std::regex_replace(log, std::regex(R"(\.(tmp|old)(\.[0-9]+)?\.[0-9a-f]{16})"), ".$1"));
}

size_t place_of(const Words& record, const std::string& wanted, size_t from) {
  const auto found =
      std::find(record.begin() + static_cast<std::ptrdiff_t>(from), record.end(), wanted);
  INFO("expected \"" << wanted << "\" from line " << from << " on");
  REQUIRE(found != record.end());
  return static_cast<size_t>(found - record.begin());
}

}  // namespace tenon::test
