// SPDX-License-Identifier: Apache-2.0
// The plan of a run is the run: to the byte what it allocates, over families, methods, precisions,
// optimizers, batches and what is recomputed. TENON_PLANS=200 tries so many combinations.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <random>
#include <set>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

Json opt_config() {
  return {{"model_type", "opt"},
          {"vocab_size", 539},
          {"hidden_size", 48},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 3},
          {"ffn_dim", 80},
          {"max_position_embeddings", 64},
          {"word_embed_proj_dim", 48},
          {"bos_token_id", 0},
          {"eos_token_id", 0},
          {"pad_token_id", 1}};
}

Json llama_config() {
  return {{"model_type", "llama"},
          {"vocab_size", 539},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"max_position_embeddings", 64},
          {"tie_word_embeddings", false},
          {"bos_token_id", 0},
          {"eos_token_id", 0}};
}

// One of many runs, drawn from all that changes what is allocated.
class Draw {
 public:
  explicit Draw(uint32_t seed) : random_(seed) {}

  std::string of(const Words& words) { return words[random_() % words.size()]; }

  Words run(const Lab& lab) {
    const std::string family = of({"gpt2", "opt", "llama"}), type = of({"fp32", "fp16", "bf16"});
    const std::string name = family + "-" + type;
    if (!lab.has(name)) {
      const Json config = family == "opt"     ? opt_config()
                          : family == "llama" ? llama_config()
                                              : tiny_config();
      lab.make_model(name, config, {"--dtype", type});
    }
    Words words = {"finetune",      "--model",
                   lab.at(name),    "--data",
                   lab.data(),      "--out",
                   lab.out(),       "--force",
                   "--packing",     "concat",
                   "--steps",       of({"1", "2", "3"}),
                   "--batch",       of({"1", "3", "4", "7"}),
                   "--seq-len",     of({"16", "23", "64"}),
                   "--micro-batch", of({"auto", "1"}),
                   "--threads",     of({"1", "2", "3"})};
    const auto add = [&](const std::string& flag, const std::string& value) {
      words.push_back(flag);
      words.push_back(value);
    };
    const std::string method = of({"lora", "qlora", "full"});
    add("--method", method);
    add("--precision", of({"fp32", "bf16-mixed", "fp16-mixed", "bf16", "fp16"}));
    add("--optimizer", of({"adamw", "adamw8bit", "adafactor", "sgd"}));
    add("--checkpoint-activations", of({"none", "all", "every:2", "auto"}));
    if (method == "full") {
      add("--update", of({"after-backward", "in-backward"}));
      add("--offload", of({"none", "none", "optimizer"}));
    } else {
      add("--rank", of({"1", "4", "9"}));
      add("--lora-dropout", of({"0", "0.1"}));
      add("--weights", of({"auto", "map", "read", "stream"}));
      if (of({"yes", "no"}) == "yes") add("--targets", "all-linear");
      if (of({"yes", "no", "no"}) == "yes") words.push_back("--dora");
      if (method == "qlora" && of({"yes", "no"}) == "yes") words.push_back("--double-quant");
      if (method == "lora") add("--quantize", of({"none", "none", "int8"}));
    }
    if (of({"yes", "no", "no"}) == "yes") add("--model-dropout", "config");
    return words;
  }

 private:
  std::mt19937 random_;
};

Json memory_of(const Lab& lab) { return Json::parse(lab.get("run/summary.json"))["memory"]; }

Words without(Words words, const std::set<std::string>& flags) {
  for (size_t i = 0; i < words.size();) {
    if (!flags.contains(words[i])) {
      ++i;
      continue;
    }
    const auto at = words.begin() + static_cast<std::ptrdiff_t>(i);
    words.erase(at, at + 2);
  }
  return words;
}

}  // namespace

TEST_CASE("a plan is to the byte what the run allocates") {
  const Lab lab;
  lab.put("data.txt", sentences(600));
  const char* wanted = std::getenv("TENON_PLANS");
  const int runs = wanted != nullptr ? std::atoi(wanted) : 30;
  int made = 0;
  for (int i = 0; i < runs; ++i) {
    const Words words = Draw(static_cast<uint32_t>(i)).run(lab);
    std::string text;
    for (const std::string& word : words) text += word + " ";
    const Result result = tenon(words);
    INFO(text << "\n" << result.err);
    if (result.code == 2) continue;  // options that do not go together
    REQUIRE(result.code == 0);
    ++made;
    const Json memory = memory_of(lab);
    for (const char* kind :
         {"weights", "gradients", "optimizer", "activations", "workspace", "allocated", "mapped"}) {
      INFO(kind);
      if (std::string(kind) == "mapped") {
        CHECK(memory["plan"][kind] <= memory["measured"][kind]);
      } else {
        CHECK(memory["plan"][kind] == memory["measured"][kind]);
      }
    }
  }
  CHECK(made > runs * 2 / 3);
}

TEST_CASE("tenon plan tells what finetune plans, and needs no weights") {
  const Lab lab;
  const Words words = lab.finetune({"--checkpoint-activations", "all", "--optimizer", "adamw8bit"});
  REQUIRE(tenon(words).code == 0);
  Words plan = without(words, {"--data", "--out", "--steps"});
  plan[0] = "plan";
  plan.push_back("--json");
  const Result folder = tenon(plan);
  INFO(folder.err);
  REQUIRE(folder.code == 0);
  const Json told = Json::parse(folder.out);
  CHECK(told["bytes"]["allocated"] == memory_of(lab)["plan"]["allocated"]);
  CHECK(told["fits"] == true);
  CHECK(told["step_seconds"] > 0);
  CHECK(told["trained_parameters"] ==
        Json::parse(lab.get("run/summary.json"))["trained_parameters"]);

  lab.copy("model/config.json", "bare/config.json");
  plan[2] = lab.at("bare/config.json");
  const Result bare = tenon(plan);
  INFO(bare.err);
  REQUIRE(bare.code == 0);
  CHECK(Json::parse(bare.out)["bytes"]["allocated"] == told["bytes"]["allocated"]);
  plan.pop_back();
  CHECK_THAT(tenon(plan).out, Catch::Contains("it fits") && Catch::Contains("activations"));
  plan.insert(plan.end(), {"--nodes", "4"});
  CHECK_THAT(tenon(plan).out, Catch::Contains("4 ranks, each 1 sequences"));
}

TEST_CASE("a run that cannot fit is refused before it reads weights, with what would") {
  const Lab lab;
  Json config = tiny_config();
  config["n_embd"] = 512;
  lab.make_model("wide", config);
  Words words = lab.finetune({"--model", lab.at("wide"), "--method", "full", "--memory", "110MB"});
  const Result refused = tenon(words);
  INFO(refused.err);
  CHECK(refused.code == 7);
  CHECK_THAT(refused.err, Catch::Contains("optimizer") && Catch::Contains("what would fit") &&
                              Catch::Contains("--optimizer adamw8bit") &&
                              Catch::Contains("tenon: error: the run needs "));
  CHECK_FALSE(lab.has("run"));
  words.push_back("--quiet");
  for (const char* wrong : {"", "8", "0GB", "-1GB", "8 apples", "nan", "1e30GB"}) {
    Words bad = lab.finetune({"--memory", wrong});
    if (*wrong == '8' && wrong[1] == '\0') continue;  // 8 bytes: refused for another reason
    INFO(wrong);
    CHECK(tenon(bad).code == 2);
  }
  CHECK(tenon(lab.finetune({"--memory", "8"})).code == 7);
}

TEST_CASE("what is auto is settled so that a run fits, with the same result") {
  const Lab lab;
  lab.put("data.txt", sentences(600));  // rows enough for a batch
  Json config = tiny_config();
  config["n_embd"] = 256;
  config["n_layer"] = 6;
  lab.make_model("deep", config);
  const auto run = [&](const Words& more) {
    Words words = lab.finetune({"--model", lab.at("deep"), "--batch", "32", "--micro-batch", "32",
                                "--seq-len", "64", "--steps", "2", "--force"});
    words.insert(words.end(), more.begin(), more.end());
    const Result result = tenon(words);
    INFO(result.err);
    REQUIRE(result.code == 0);
    return lab.metrics("loss");
  };
  const Words whole = run({});
  const Json memory = memory_of(lab);
  const int64_t needs =
      memory["plan"]["resident"].get<int64_t>() + memory["plan"]["mapped"].get<int64_t>();
  const std::string before = lab.get("run/config.yaml");
  CHECK_THAT(before, Catch::Contains("checkpoint-activations: none"));
  const int64_t activations = memory["plan"]["activations"].get<int64_t>();
  const Words tight = run({"--memory", std::to_string(needs - activations / 2)});
  CHECK(tight == whole);
  CHECK_THAT(lab.get("run/config.yaml"), !Catch::Contains("checkpoint-activations: none"));
  CHECK(memory_of(lab)["measured"]["allocated"] == memory_of(lab)["plan"]["allocated"]);
}

TEST_CASE("an optimizer's state in a file is the same state") {
  const Lab lab;
  Json config = tiny_config();
  config["n_embd"] = 160;  // state of more than 64 KiB
  lab.make_model("wide", config);
  const auto run = [&](const Words& more) {
    Words words = lab.finetune({"--model", lab.at("wide"), "--method", "full", "--force"});
    words.insert(words.end(), more.begin(), more.end());
    const Result result = tenon(words);
    INFO(result.err);
    REQUIRE(result.code == 0);
    return lab.get("run/model/model.safetensors");
  };
  for (const char* optimizer : {"adamw", "adamw8bit", "sgd"}) {
    INFO(optimizer);
    const std::string whole = run({"--optimizer", optimizer});
    const int64_t before = memory_of(lab)["measured"]["allocated"].get<int64_t>();
    CHECK(run({"--optimizer", optimizer, "--offload", "optimizer"}) == whole);
    CHECK(memory_of(lab)["measured"]["allocated"].get<int64_t>() < before);
    // A run goes on with it from a checkpoint of one without, and the other way.
    std::filesystem::remove_all(lab.at("run"));
    Words words =
        lab.finetune({"--model", lab.at("wide"), "--method", "full", "--steps", "6", "--save-every",
                      "3", "--optimizer", optimizer, "--offload", "optimizer"});
    REQUIRE(tenon(words).code == 0);
    for (const char* gone : {"run/checkpoints/step-6", "run/model"})
      std::filesystem::remove_all(lab.at(gone));
    words.back() = "none";
    words.insert(words.end(), {"--resume", "auto"});
    REQUIRE(tenon(words).code == 0);
    CHECK(lab.get("run/model/model.safetensors") == whole);
  }
}

TEST_CASE("memory does not grow over 3,000 steps") {
  const Lab lab;
  const Words method =
      GENERATE(Words{"--method", "qlora", "--precision", "bf16", "--optimizer", "adamw8bit",
                     "--checkpoint-activations", "every:2", "--lora-dropout", "0.1"},
               Words{"--method", "full", "--precision", "bf16", "--optimizer", "adafactor",
                     "--update", "in-backward"});
  Words words = lab.finetune({"--batch", "2", "--steps", "3000", "--save-every", "0", "--quiet"});
  words.insert(words.end(), method.begin(), method.end());
  const Result result = tenon(words);
  INFO(result.err);
  REQUIRE(result.code == 0);
  const Words peaks = lab.metrics("memory_peak_bytes");
  REQUIRE(peaks.size() == 3000);
  // A leak of 100 bytes a step would show.
  CHECK(std::stoll(peaks.back()) - std::stoll(peaks[9]) < 200'000);
}

}  // namespace tenon::test
