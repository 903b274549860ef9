// SPDX-License-Identifier: Apache-2.0
// tenon bench: every group runs at a small size, checks what it computes and says it in JSON; nothing
// here looks at a time.
#include <catch2/catch.hpp>
#include <map>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

// The document of `tenon bench WORDS... --json` with few short runs on two threads.
Json bench(Words words) {
  words.insert(words.begin(), "bench");
  const Words short_runs = {"--json", "--device", "cpu",       "--threads", "2",
                            "--runs", "1",        "--seconds", "0"};
  words.insert(words.end(), short_runs.begin(), short_runs.end());
  const Result result = tenon(words);
  INFO(result.err);
  REQUIRE(result.code == 0);
  return Json::parse(result.out);
}

// What every line has.
void check_line(const Json& line, const std::string& group) {
  INFO(line.dump());
  CHECK(line.at("group") == group);
  CHECK(line.at("ms").get<double>() > 0);
  CHECK(line.at("ms_low").get<double>() <= line.at("ms").get<double>());
  CHECK(line.at("ms_high").get<double>() >= line.at("ms").get<double>());
  if (line.contains("error_of_bound")) CHECK(line.at("error_of_bound").get<double>() <= 1);
  for (const Json& peer : line.at("peers")) CHECK(peer.at("ratio").get<double>() > 0);
}

TEST_CASE("bench describes the machine and its command") {
  const Json report = bench({"gemm", "--shape", "5x7x3"});
  CHECK_THAT(report.at("command"), Catch::StartsWith("tenon bench gemm --shape 5x7x3"));
  CHECK_THAT(report.at("version"), Catch::StartsWith("tenon "));
  const Json& machine = report.at("machine");
  CHECK(machine.at("threads") == 2);
  for (const char* positive :
       {"cores", "l1_bytes", "memory_bytes", "gflops", "gflops_1_thread", "copy_gbps"}) {
    INFO(positive);
    CHECK(machine.at(positive).get<double>() > 0);
  }
  CHECK(!machine.at("cpu").get<std::string>().empty());
  CHECK(!machine.at("table").get<std::string>().empty());
}

TEST_CASE("bench gemm, with every layout and dtype") {
  const Json report = bench({"gemm", "--shape", "33x50x17:NN", "33x50x17:NT", "33x50x17:TN",
                             "1x50x17:NT", "--dtype", "fp32", "bf16", "fp16", "int8"});
  CHECK(report.at("lines").size() == 3 * 4 + 2);  // int8 has its scales along k's rows: NT alone
  std::map<std::string, int> compared;
  for (const Json& line : report.at("lines")) {
    check_line(line, "gemm");
    CHECK(line.at("gflops").get<double>() > 0);
    for (const Json& peer : line.at("peers")) ++compared[peer.at("name").get<std::string>()];
  }
  CHECK(report.at("summary").size() == compared.size());
  for (const Json& each : report.at("summary")) {
    CHECK(each.at("lines") == compared.at(each.at("peer").get<std::string>()));
    CHECK(each.at("smallest").get<double>() <=
          each.at("geometric_mean").get<double>() * (1 + 1e-9));
  }
}

TEST_CASE("bench gemm without peers, and only some lines") {
  const Json report = bench({"gemm", "--peers", "none", "--only", "llama-1b.kv generate"});
  REQUIRE(report.at("lines").size() == 3);
  for (const Json& line : report.at("lines")) CHECK(line.at("peers").empty());
}

TEST_CASE("bench lora, attention and loss") {
  for (const Json& line :
       bench({"lora", "--shape", "33x20x28:3", "--dtype", "fp32", "bf16"}).at("lines")) {
    check_line(line, "lora");
    CHECK(line.at("ms_frozen").get<double>() > 0);
  }
  const Json attention =
      bench({"attention", "--shape", "2x4/2x16x33", "1x3x8x1:40", "--dtype", "fp32", "fp16"});
  CHECK(attention.at("lines").size() == 2 * 3);
  for (const Json& line : attention.at("lines")) check_line(line, "attention");
  const Json loss =
      bench({"loss", "--shape", "40x301x24", "40x301x24:25", "--dtype", "fp32", "bf16"});
  CHECK(loss.at("lines").size() == 2 * 4);
  for (const Json& line : loss.at("lines")) {
    check_line(line, "loss");
    CHECK(line.at("extra_bytes").get<int64_t>() > 0);
  }
}

TEST_CASE("bench rows") {
  const Json report = bench({"rows", "--shape", "19x34", "--dtype", "fp32", "bf16"});
  CHECK(report.at("lines").size() > 60);
  for (const Json& line : report.at("lines")) {
    check_line(line, "rows");
    CHECK(line.at("gbps").get<double>() > 0);
  }
}

TEST_CASE("bench step trains, and its profile adds up") {
  const Lab lab;
  const Words step = {"step",      "--model", lab.model(), "--batch", "2",
                      "--seq-len", "16",      "--steps",   "3",       "--profile"};
  Words full = step;
  full.insert(full.end(), {"--full", "--scored", "0.25"});
  for (const Words& words : {step, full}) {
    const Listing before = list(lab.path());
    const Json report = bench(words);
    CHECK(list(lab.path()) == before);
    const Json& line = report.at("lines").at(0);
    check_line(line, "step");
    CHECK(line.at("last_loss").get<double>() < line.at("first_loss").get<double>());
    CHECK(line.at("blocks_after_first_step") == 0);
    CHECK(line.at("scored_tokens") == (words == full ? 8 : 32));
    double total = 0;
    std::map<std::string, int> phases;
    for (const Json& row : report.at("profile").at("rows")) {
      total += row.at("ms").get<double>();
      ++phases[row.at("phase").get<std::string>()];
    }
    CHECK(total == Approx(report.at("profile").at("step_ms").get<double>()));
    CHECK(phases.size() == 4);  // forward, backward, optimizer, and what lies between kernels
  }
}

TEST_CASE("bench step takes random weights from a config alone") {
  const Lab lab;
  const Words step = {"step",      "--model", lab.at("model/config.json"), "--batch", "1",
                      "--seq-len", "8"};
  Words lora = step, full = step;
  lora.insert(lora.end(), {"--lora", "2"});
  full.push_back("--full");
  CHECK(bench(lora).at("lines").at(0).at("rank") == 2);
  CHECK(bench(full).at("lines").at(0).at("rank") == 0);
}

TEST_CASE("bench refuses what it does not understand") {
  const Lab lab;
  check_refused(lab, {"bench"}, {"expected a command: gemm, nf4, lora"});
  check_refused(lab, {"bench", "gem"}, {"\"gem\"", "did you mean gemm?"});
  check_refused(lab, {"bench", "gemm", "--shap", "1x1x1"}, {"did you mean --shape?"});
  check_refused(lab, {"bench", "gemm", "--shape", "8x8"}, {"--shape: expected MxNxK", "8x8"});
  check_refused(lab, {"bench", "gemm", "--shape", "8x0x8"}, {"--shape"});
  check_refused(lab, {"bench", "gemm", "--dtype", "fp8"}, {"--dtype", "fp8"});
  check_refused(lab, {"bench", "rows", "--dtype", "int8"}, {"--dtype", "int8"});
  check_refused(lab, {"bench", "gemm", "--peers", "MKL"}, {"--peers", "oneDNN", "MKL"});
  check_refused(lab, {"bench", "gemm", "--threads", "0"}, {"--threads", "0"});
  check_refused(lab, {"bench", "gemm", "--runs", "many"}, {"--runs", "many"});
  check_refused(lab, {"bench", "attention", "--shape", "1x3/2x64x8"}, {"--shape", "KV_HEADS"});
  check_refused(lab, {"bench", "loss", "--shape", "8x8x8:101"}, {"--shape", "PERCENT"});
  check_refused(lab, {"bench", "step"}, {"--model"});
  check_refused(lab, {"bench", "step", "--model", lab.at("none")}, {"none/config.json"});
  check_refused(lab, {"bench", "step", "--model", lab.model(), "--seq-len", "65"},
                {"--seq-len", "64"});
  check_refused(lab, {"bench", "step", "--model", lab.model(), "--seq-len", "8", "--scored", "0"},
                {"--scored"});
  check_refused(lab, {"bench", "gemm", "--device", "gpu"}, {"--device", "auto, cpu, cuda"});
}

}  // namespace
}  // namespace tenon::test
