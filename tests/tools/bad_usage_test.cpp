// SPDX-License-Identifier: Apache-2.0
// Command lines and config files that are wrong: one line that says what, exit 2, nothing written.
#include <catch2/catch.hpp>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

TEST_CASE("a command that is missing or unknown") {
  const Lab lab;
  check_refused(lab, {}, {"expected a command", "finetune, plan, init, evaluate"});
  check_refused(lab, {"finetun"}, {"unknown command \"finetun\"", "did you mean finetune?"});
  check_refused(lab, {"--verison"}, {"--verison", "did you mean --version?"});
  check_refused(lab, {"Finetune\x1b[31m"}, {"Finetune\\x1b[31m"});
}

TEST_CASE("an unknown option names the nearest, in every command") {
  const Lab lab;
  check_refused(lab, lab.finetune({"--sed", "1"}), {"--sed", "did you mean --seed?"});
  check_refused(lab, lab.finetune({"--lern-rate", "1"}), {"--lern-rate", "did you mean --lr?"});
  check_refused(lab, lab.finetune({"--seq_len", "9"}), {"--seq_len", "did you mean --seq-len?"});
  check_refused(lab, lab.finetune({"-x"}), {"unknown option -x"});
  check_refused(lab, {"init", "--confg", "c"}, {"did you mean --config?"});
  check_refused(lab, {"evaluate", "--modle=m"}, {"--modle", "did you mean --model?"});
  check_refused(lab, {"generate", "--temprature", "1"}, {"did you mean --temperature?"});
  check_refused(lab, {"verify", "--thread", "1"}, {"did you mean --threads?"});
  check_refused(lab, {"inspect", "--zzzzzzzz"}, {"unknown option --zzzzzzzz"});
}

TEST_CASE("a value that is missing, repeated or one too many") {
  const Lab lab;
  check_refused(lab, lab.finetune({"--lr"}), {"--lr: expected a value"});
  check_refused(lab, lab.finetune({"--lr="}), {"--lr: expected a value"});
  check_refused(lab, {"finetune", "--model", "m", "--data", "--out", "x"},
                {"--data: expected a value"});
  check_refused(lab, {"generate", "--prompt", "--model", "m"}, {"--prompt: expected a value"});
  check_refused(lab, lab.finetune({"--lr=1", "--lr=2"}), {"--lr: given twice"});
  check_refused(lab, lab.finetune({"--quiet", "--quiet"}), {"--quiet: given twice"});
  check_refused(lab, lab.finetune({"--quiet=maybe"}), {"--quiet: expected true or false", "maybe"});
  check_refused(lab, {"generate", "--model", "m", "--prompt", "a", "b"}, {"unexpected \"b\""});
  check_refused(lab, {"inspect", "a", "b"}, {"b"});
  check_refused(lab, {"inspect"}, {"required"});
  check_refused(lab, {"finetune"}, {"--model"});
  check_refused(lab, {"evaluate", "--model", "m"}, {"--data"});
}

TEST_CASE("numbers are whole, decimal, finite and in range, whatever the locale") {
  const Lab lab;
  for (const char* value : {"10x", "1e400", "nan", "-1", "inf", "0x10", "1,5", "", " 1", "1e-"}) {
    check_refused(lab, lab.finetune({std::string("--lr=") + value}), {"--lr: expected a"});
  }
  for (const char* value : {"10x", "1.5", "-1", "0", "1e3", "18446744073709551616", "0x10"}) {
    check_refused(lab, lab.finetune({"--rank", value}), {"--rank: expected an integer", value});
  }
  const Words generate = {"generate", "--model", lab.model(), "--prompt", "a"};
  const auto with = [&](const std::string& flag, const std::string& value) {
    Words words = generate;
    words.insert(words.end(), {flag, value});
    return words;
  };
  for (const char* value : {"10x", "1e400", "nan", "-1", "1,5"}) {
    check_refused(lab, with("--temperature", value), {"--temperature: expected a number", value});
    check_refused(lab, with("--top-p", value), {"--top-p: expected a number", value});
    check_refused(lab, with("--max-tokens", value), {"--max-tokens: expected an integer", value});
    check_refused(lab, with("--top-k", value), {"--top-k: expected an integer", value});
    check_refused(lab, with("--seed", value), {"--seed: expected an integer", value});
    check_refused(lab, with("--threads", value), {"--threads: expected an integer", value});
  }
  check_refused(lab, with("--seed", "9223372036854775808"), {"--seed"});
  check_refused(lab, {"init", "--config", "c", "--out", "o", "--seed", "-1"}, {"--seed"});

  // A comma is no decimal point where the user's language has one.
  const Environment german = {{"LC_ALL", "de_DE.UTF-8"}, {"LANG", "de_DE.UTF-8"}};
  CHECK(tenon(lab.finetune({"--lr", "1,5"}), german).code == 2);
  const Result good = tenon(lab.finetune({"--lr", "1.5e-3", "--steps", "1"}), german);
  CHECK(good.code == 0);
  CHECK(lab.get("run/config.yaml").find("lr: 0.0015\n") != std::string::npos);
}

TEST_CASE("choices list what there is") {
  const Lab lab;
  check_refused(lab, lab.finetune({"--method", "lorra"}),
                {"--method: expected one of lora, qlora, full", "did you mean lora?"});
  check_refused(lab, lab.finetune({"--precision", "fp8"}),
                {"--precision", "fp32, bf16-mixed, fp16-mixed, bf16, fp16"});
  check_refused(lab, {"generate", "--model", lab.model(), "--prompt", "a", "--precision", "fp8"},
                {"--precision: expected fp32, bf16 or fp16", "fp8"});
  check_refused(lab, {"evaluate", "--model", lab.model(), "--data", lab.data(), "--task", "chess"},
                {"--task", "chess", "perplexity"});
  check_refused(
      lab,
      {"init", "--config", lab.at("model/config.json"), "--out", lab.at("new"), "--dtype", "int4"},
      {"--dtype", "int4"});
  check_refused(lab, lab.finetune({"--device", "cuda:99"}), {"--device cuda:99"}, 3);
  check_refused(lab, lab.finetune({"--device", "gpu"}), {"--device", "auto, cpu, cuda or cuda:N"});
  check_refused(lab, lab.finetune({"--parallel", "tp=2"}), {"\"tp=2\""});
}

TEST_CASE("flags that contradict each other") {
  const Lab lab;
  check_refused(lab, lab.finetune({"--val", lab.data(), "--val-split", "0.1"}), {"--val-split"});
  check_refused(lab, lab.finetune({"--resume", "auto", "--force"}), {"--resume", "--force"});
  check_refused(lab, lab.finetune({"--early-stop", "2"}), {"--early-stop", "--val"});
  check_refused(lab, lab.finetune({"--micro-batch", "5"}), {"--micro-batch", "--batch 4"});
  check_refused(lab, lab.finetune({"--steps", "0", "--epochs", "0"}), {"--epochs"});
  check_refused(lab, {"generate", "--model", lab.model()}, {"--prompt", "--prompts"});
  check_refused(lab, {"generate", "--model", lab.model(), "--prompt", "a", "--prompts", "b"},
                {"--prompt", "--prompts"});
}

TEST_CASE("config files") {
  const Lab lab;
  const auto refused = [&](const std::string& text, const Words& parts) {
    lab.put("run.yaml", text);
    check_refused(lab, lab.finetune({"--config", lab.at("run.yaml")}), parts);
  };
  check_refused(lab, lab.finetune({"--config", lab.at("none.yaml")}), {"none.yaml"});
  refused("seed: 1\nlernrate: 2\n", {"run.yaml:2", "lernrate"});
  refused("seed: 1\nrnak: 2\n", {"run.yaml:2", "did you mean rank?"});
  refused("seed: 1\nseed: 2\n", {"run.yaml:2", "twice"});
  refused("seed: 1\nclip: 10x\n", {"run.yaml:2", "--clip", "10x"});
  refused("seed: [1, 2]\n", {"run.yaml:1", "--seed"});
  refused("seed: {a: 1}\n", {"run.yaml:1"});
  refused("seed: [1\n", {"run.yaml", "YAML"});
  refused("just words\n", {"run.yaml", "name: value"});
  refused("", {"run.yaml"});
  refused("? [seed]\n: 1\n", {"run.yaml:1"});

  lab.put("run.yaml", "seed: 7\nlr: 0.25\nrslora: true\n");
  REQUIRE(tenon(lab.finetune({"--config", lab.at("run.yaml"), "--lr", "0.5"})).code == 0);
  const std::string config = lab.get("run/config.yaml");
  CHECK(config.find("seed: 7\n") != std::string::npos);
  CHECK(config.find("lr: 0.5\n") != std::string::npos);
  CHECK(config.find("rslora: true\n") != std::string::npos);
}

TEST_CASE("paths that no file can have") {
  const Lab lab;
  check_refused(lab, lab.finetune({"--model", "no\nsuch\x1b[31mmodel"}),
                {"no\\nsuch\\x1b[31mmodel/config.json"});
  const std::string longest(5000, 'a');
  check_refused(lab, lab.finetune({"--model", longest}), {"aaaa"});
  check_refused(lab, lab.finetune({"--data", longest + ".txt"}), {"aaaa"});
  check_refused(lab, lab.finetune({"--out", longest}), {"aaaa"});
  check_refused(lab, {"inspect", longest}, {"aaaa", "too long"});
  check_refused(lab, {"init", "--config", lab.at("model/config.json"), "--out", longest}, {"aaaa"});
  check_refused(lab, {"inspect", lab.data() + "/x"}, {lab.data()});
}

TEST_CASE("help and version are results") {
  for (const Words& words : {Words{"--help"}, Words{"finetune", "--help"}, Words{"--version"}}) {
    const Result result = tenon(words);
    CHECK(result.code == 0);
    CHECK(result.err.empty());
    CHECK(result.out.size() > 20);
  }
}

TEST_CASE("a stdout that cannot be written is an error") {
  const Lab lab;
  const Result result = run({"/bin/sh", "-c",
                             std::string(TENON_PROGRAM) + " evaluate --model " + lab.model() +
                                 " --data " + lab.data() + " --threads 1 > /dev/full"});
  CHECK(result.code == 6);
  CHECK(result.err == "tenon: error: stdout: cannot be written\n");
}

}  // namespace
}  // namespace tenon::test
