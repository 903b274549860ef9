// SPDX-License-Identifier: Apache-2.0
// An adapter's life from outside: trained with all that it may hold, gone on with from a checkpoint,
// looked at, evaluated and merged; and what is refused on the way.
#include <catch2/catch.hpp>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

const Words kDora = {"--targets",    "all-linear",   "--dora",    "--modules-to-save",
                     "lm_head,ln_f", "--bias",       "lora_only", "--lora-dropout",
                     "0.1",          "--save-every", "3"};
const Words kPatterns = {"--targets",
                         R"(.*\.(c_attn|c_fc))",
                         "--rank-pattern",
                         "h.0.mlp.c_fc=4",
                         "--alpha-pattern",
                         "c_attn=3",
                         "--lora-bias",
                         "--bias",
                         "all",
                         "--modules-to-save",
                         "wte",
                         "--save-every",
                         "3"};

}  // namespace

TEST_CASE("an adapter that holds more is gone on with bit by bit, and merged", "[cli]") {
  const Words& kind = GENERATE_REF(kDora, kPatterns);
  const Lab lab;
  const Result trained = tenon(lab.finetune(kind));
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  const Words files = {"run/adapter/adapter_model.safetensors", "run/adapter/adapter_config.json"};
  const std::string weights = lab.get(files[0]), config = lab.get(files[1]);

  fs::remove_all(lab.at("run/adapter"));
  fs::remove_all(lab.at("run/checkpoints/step-6"));
  Words again = kind;
  again.insert(again.end(), {"--resume", "auto"});
  REQUIRE(tenon(lab.finetune(again)).code == 0);
  CHECK(lab.get(files[0]) == weights);
  CHECK(lab.get(files[1]) == config);

  const std::string adapter = lab.at("run/adapter");
  const Result shown = tenon({"inspect", adapter, "--model", lab.model()});
  INFO(shown.err);
  CHECK(shown.code == 0);
  CHECK_THAT(shown.out, Catch::Contains("adapter, rank 2") && Catch::Contains("trained whole: "));
  REQUIRE(tenon({"merge", "--model", lab.model(), "--adapter", adapter, "--out", lab.at("merged")})
              .code == 0);
  const double with_adapter = loss_of(lab, {"--model", lab.model(), "--adapter", adapter});
  CHECK(loss_of(lab, {"--model", lab.at("merged")}) == Approx(with_adapter).epsilon(1e-5));
  CHECK(loss_of(lab, {"--model", lab.model()}) > 1.001 * with_adapter);
}

TEST_CASE("an adapter is merged as often as its weight says", "[cli]") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--lr", "0.05"})).code == 0);
  const auto merged = [&](const std::string& weight) {
    const Result result = tenon({"merge", "--model", lab.model(), "--adapter",
                                 lab.at("run/adapter") + weight, "--out", lab.at("by" + weight)});
    INFO(result.err);
    REQUIRE(result.code == 0);
    return lab.get("by" + weight + "/model.safetensors");
  };
  const std::string once = merged("");
  CHECK(merged("=1") == once);
  CHECK(merged("=0") != once);
}

TEST_CASE("an adapter that does not fit, and flags that do not go together", "[cli]") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--steps", "1", "--targets", "c_attn"})).code == 0);
  const std::string adapter = lab.at("run/adapter");
  Json wide = tiny_config();
  wide["n_embd"] = 48;
  lab.make_model("wide", wide);
  check_refused(lab, {"inspect", adapter, "--model", lab.at("wide")},
                {"does not fit", "h.0.attn.c_attn.lora_A.weight is [2, 32], expected [2, 48]",
                 "h.1.attn.c_attn.lora_B.weight is [96, 2], expected [144, 2]"});
  check_refused(lab, {"inspect", lab.model(), "--model", lab.model()}, {"--model: "});
  check_refused(lab, {"merge", "--model", lab.model(), "--adapter", adapter, "--out", lab.model()},
                {"--out "});
  check_refused(
      lab,
      {"merge", "--model", lab.model(), "--adapter", adapter + "=x", "--out", lab.at("merged")},
      {"--adapter ", "expected a number"});
  for (const auto& [words, part] : std::vector<std::pair<Words, std::string>>{
           {{"--dora", "--lora-bias"}, "--lora-bias: not together with --dora"},
           {{"--method", "full", "--dora"}, "--dora: not together with --method full"},
           {{"--targets", "c_attn,.*fc"}, "--targets: a regular expression stands alone"},
           {{"--rank-pattern", "c_attn"}, "--rank-pattern: expected NAME=NUMBER"},
           {{"--layers", "x"}, "--layers: expected an integer"},
           {{"--modules-to-save", "score"}, "--modules-to-save: no module is named"}}) {
    Words all = words;
    all.insert(all.end(), {"--out", lab.at("other")});
    check_refused(lab, lab.finetune(all), {part});
  }
}

}  // namespace tenon::test
