// SPDX-License-Identifier: Apache-2.0
// What the commands do when all is well, as far as it can be seen from outside.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

Result good(const Words& words) {
  const Result result = tenon(words);
  INFO(result.err);
  REQUIRE(result.code == 0);
  return result;
}

TEST_CASE("init: a seed gives the same bytes, another seed others") {
  const Lab lab;
  const std::string config = lab.at("model/config.json");
  const auto init = [&](const char* out, const Words& more) {
    Words words = {"init", "--config", config, "--out", lab.at(out)};
    words.insert(words.end(), more.begin(), more.end());
    CHECK(good(words).out.empty());
    return lab.get(std::string(out) + "/model.safetensors");
  };
  const std::string first = init("a", {"--seed", "1", "--threads", "1"});
  CHECK(first == init("b", {"--seed", "1", "--threads", "3"}));
  CHECK(first != init("c", {"--seed", "2"}));
  CHECK(init("d", {"--dtype", "bf16"}).size() < first.size() * 2 / 3);
  CHECK(lab.get("a/config.json") == lab.get("model/config.json"));
  CHECK(lab.get("a/tokenizer.json") == lab.get("model/tokenizer.json"));

  // --force replaces the weights, shards included, and leaves what else is there.
  lab.put("a/model-00001-of-00002.safetensors", "old");
  lab.put("a/notes.md", "mine");
  CHECK(first == init("a", {"--seed", "1", "--force"}));
  CHECK_FALSE(lab.has("a/model-00001-of-00002.safetensors"));
  CHECK(lab.get("a/notes.md") == "mine");
}

TEST_CASE("paths may be relative, and end in a slash") {
  const Lab lab;
  const auto in_lab = [&](const std::string& words) {
    const Result result =
        run({"/bin/sh", "-c", "cd " + lab.at("") + " && exec " TENON_PROGRAM " " + words});
    INFO(words << ": " << result.err);
    CHECK(result.code == 0);
  };
  in_lab("init --config model/config.json --out new");
  in_lab("init --config model/config.json --out deep/er/new/");
  in_lab("init --config model/config.json --out deep/er/new/ --force");
  CHECK(list(lab.at("new")) == list(lab.at("deep/er/new")));
  const std::string finetune =
      "finetune --model new/ --data data.txt --steps 4 --save-every 2 "
      "--seq-len 16 --batch 4 --threads 1 --out ";
  in_lab(finetune + "one");
  in_lab(finetune + "two/deep/");
  in_lab(finetune + "two/deep/ --resume two/deep/checkpoints/step-2/");
  CHECK(lab.get("one/adapter/adapter_model.safetensors") ==
        lab.get("two/deep/adapter/adapter_model.safetensors"));
  in_lab("inspect one/checkpoints/step-2/");
  in_lab("inspect one/");
}

TEST_CASE("finetune leaves the run folder as documented") {
  const Lab lab;
  const Result result = good(lab.finetune(
      {"--save-every", "2", "--keep", "2", "--val-split", "0.2", "--eval-every", "3"}));
  CHECK(result.out.empty());
  for (const char* name :
       {"config.yaml", "metrics.csv", "metrics.jsonl", "ranks.csv", "summary.json",
        "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
        "adapter-best/adapter_config.json", "checkpoints/step-4/manifest.json",
        "checkpoints/step-6/manifest.json", "checkpoints/step-6/adapter/adapter_config.json"}) {
    INFO(name);
    CHECK(lab.has(std::string("run/") + name));
  }
  CHECK_FALSE(lab.has("run/checkpoints/step-2"));
  CHECK(lab.metrics("step") == Words{"1", "2", "3", "4", "5", "6"});
  const Words rows = lines(lab.get("run/metrics.csv"));
  CHECK(rows[0] ==
        "step,epoch,tokens,loss,val_loss,perplexity,lr,grad_norm,tokens_per_second,step_seconds,"
        "memory_peak_bytes,loss_scale,skipped_steps");
  const Words json_rows = lines(lab.get("run/metrics.jsonl"));
  REQUIRE(json_rows.size() == 6);
  for (size_t i = 0; i < 6; ++i) {
    const Json row = Json::parse(json_rows[i]);
    CHECK(row.at("step") == i + 1);
    CHECK(row.contains("val_loss") == (i == 2 || i == 5));
    CHECK(row.at("loss").get<double>() == std::stod(lab.metrics("loss")[i]));
    CHECK(row.at("lr").get<double>() == std::stod(lab.metrics("lr")[i]));
  }
  const Words ranks = lines(lab.get("run/ranks.csv"));
  REQUIRE(ranks.size() == 2);
  CHECK(ranks[0].starts_with("rank,node,threads,seconds,computing,communicating,idle,"));
  CHECK(ranks[1].starts_with("0,"));
  const Json summary = Json::parse(lab.get("run/summary.json"));
  CHECK(summary.at("steps") == 6);
  CHECK(summary.at("end") == "finished");
  CHECK(summary.at("first_loss").get<double>() == std::stod(lab.metrics("loss").front()));
  CHECK(summary.at("last_loss").get<double>() == std::stod(lab.metrics("loss").back()));
}

TEST_CASE("the config of a run repeats it") {
  const Lab lab;
  good(lab.finetune({"--targets", "c_attn,c_fc", "--lora-dropout", "0.1", "--schedule", "linear",
                     "--lr", "0.0123456789012345", "--val-split", "0.2"}));
  good({"finetune", "--config", lab.at("run/config.yaml"), "--out", lab.at("again")});
  CHECK(list(lab.at("run/adapter")) == list(lab.at("again/adapter")));
  CHECK(list(lab.at("run/adapter-best")) == list(lab.at("again/adapter-best")));
  CHECK(lab.metrics("loss") == lab.metrics("loss", "again"));
  // Threads do not change the result.
  good({"finetune", "--config", lab.at("run/config.yaml"), "--out", lab.at("three"), "--threads",
        "3"});
  CHECK(list(lab.at("run/adapter")) == list(lab.at("three/adapter")));
}

TEST_CASE("a line of progress every --log-every steps, and of the last") {
  const Lab lab;
  const Words said = lines(good(lab.finetune({"--log-every", "4"})).err);
  const auto header = std::find_if(said.begin(), said.end(), [](const std::string& line) {
    return line.starts_with("   step  epoch ");
  });
  REQUIRE(said.end() - header > 2);
  CHECK(header[1].starts_with("      4 "));
  CHECK(header[2].starts_with("      6 "));
}

TEST_CASE("micro-batches and recomputed activations give the same run") {
  const Lab lab;
  good(lab.finetune());
  good(lab.finetune({"--out", lab.at("micro"), "--micro-batch", "1"}));
  good(lab.finetune({"--out", lab.at("again"), "--checkpoint-activations"}));
  CHECK(list(lab.at("run/adapter")) == list(lab.at("again/adapter")));
  for (size_t i = 0; i < 6; ++i) {
    const double whole = std::stod(lab.metrics("loss")[i]);
    CHECK(std::fabs(whole - std::stod(lab.metrics("loss", "micro")[i])) <= 1e-6);
  }
}

TEST_CASE("full fine-tuning gives a model that the commands take") {
  const Lab lab;
  good(lab.finetune({"--method", "full", "--lr", "1e-3", "--steps", "12"}));
  CHECK(lab.has("run/model/tokenizer.json"));
  const Words losses = lab.metrics("loss");
  CHECK(std::stod(losses.back()) < std::stod(losses.front()) - 0.1);
  const auto loss_of = [&](const std::string& model) {
    const Result result = good({"evaluate", "--model", lab.at(model), "--data", lab.data()});
    return Json::parse(result.out).at("loss").get<double>();
  };
  CHECK(loss_of("run/model") < loss_of("model") - 0.1);
}

TEST_CASE("every weight in bf16 is trained in the backward pass, and the run goes on bit by bit") {
  const Lab lab;
  const auto train = [&](const Words& more) {
    Words words = lab.finetune({"--method", "full", "--precision", "bf16-true", "--optimizer",
                                "adafactor", "--update", "in-backward", "--steps", "6", "--lr",
                                "0.02", "--schedule", "constant", "--save-every", "3"});
    words.insert(words.end(), more.begin(), more.end());
    const Result result = tenon(words);
    INFO(result.err);
    REQUIRE(result.code == 0);
    return result.err;
  };
  CHECK_THAT(train({}), Catch::Contains("--clip 1 holds for each tensor"));
  const Words losses = lab.metrics("loss");
  CHECK(std::stod(losses.back()) < std::stod(losses.front()));
  CHECK_THAT(lab.get("run/config.yaml"), Catch::Contains("precision: bf16\n"));
  const std::string model = lab.get("run/model/model.safetensors");
  std::filesystem::remove_all(lab.at("run/checkpoints/step-6"));
  train({"--resume", "auto"});
  CHECK(lab.metrics("loss") == losses);
  CHECK(lab.get("run/model/model.safetensors") == model);
  check_refused(
      lab,
      lab.finetune({"--update", "in-backward", "--precision", "fp16", "--out", lab.at("other")}),
      {"--update in-backward", "fp16"});
  check_refused(lab, lab.finetune({"--optimizer", "adam", "--out", lab.at("other")}),
                {"--optimizer", "adamw8bit", "adafactor", "adam"});
}

TEST_CASE("evaluate prints JSON") {
  const Lab lab;
  good(lab.finetune({"--lr", "0.05"}));
  const Words words = {"evaluate", "--model", lab.model(), "--data", lab.data()};
  const Result result = good(words);
  CHECK(result.err.empty());
  REQUIRE(lines(result.out).size() == 1);
  const Json before = Json::parse(result.out);
  CHECK(before.at("perplexity").get<double>() == Approx(std::exp(before.at("loss").get<double>())));
  CHECK(before.at("tokens") > 100);
  Words adapted = words;
  adapted.insert(adapted.end(), {"--adapter", lab.at("run/adapter"), "--seq-len", "16"});
  const Json after = Json::parse(good(adapted).out);
  CHECK(after.at("loss") < before.at("loss"));
  // The batch that it is cut into does not matter.
  adapted.insert(adapted.end(), {"--micro-batch", "3", "--threads", "2"});
  CHECK(Json::parse(good(adapted).out).at("loss").get<double>() ==
        Approx(after.at("loss").get<double>()).epsilon(1e-6));
}

TEST_CASE("generate repeats itself") {
  const Lab lab;
  const auto say = [&](const Words& more) {
    Words words = {"generate",    "--model",      lab.model(), "--prompt",
                   "The fox saw", "--max-tokens", "20"};
    words.insert(words.end(), more.begin(), more.end());
    return good(words).out;
  };
  const std::string greedy = say({});
  CHECK(greedy == say({"--threads", "2"}));
  CHECK(greedy == say({"--temperature", "0.9", "--top-k", "1"}));
  CHECK(greedy == say({"--temperature", "0.9", "--top-p", "0"}));
  const std::string drawn = say({"--temperature", "1", "--seed", "5"});
  CHECK(drawn == say({"--temperature", "1", "--seed", "5"}));
  CHECK(drawn != say({"--temperature", "1", "--seed", "6"}));
  const Json ids = Json::parse(say({"--ids"}));
  REQUIRE(ids.is_array());
  CHECK(ids.size() == 20);
  CHECK(greedy.back() == '\n');
  // As far as the model's positions go.
  const Result longest = good({"generate", "--model", lab.model(), "--prompt", "The fox saw",
                               "--ids", "--max-tokens", "500"});
  CHECK(Json::parse(longest.out).size() < 64);
  CHECK(longest.err == "tenon: note: the model's context is full\n");
}

TEST_CASE("generate prints a line for each prompt of a file") {
  const Lab lab;
  lab.put(
      "p.jsonl",
      "{\"prompt\": \"The fox saw\"}\n\n{\"prompt\": \"Nobody\"}\r\n{\"prompt\": \"The fox saw\"}");
  const Words words = {"generate",        "--model",      lab.model(), "--prompts",
                       lab.at("p.jsonl"), "--max-tokens", "12"};
  const Words said = lines(good(words).out);
  REQUIRE(said.size() == 3);
  CHECK(said[0] == said[2]);  // greedy
  const Result alone =
      good({"generate", "--model", lab.model(), "--prompt", "The fox saw", "--max-tokens", "12"});
  CHECK(Json::parse(said[0]).get<std::string>() + "\n" == alone.out);

  // Drawn at random: newlines and bytes that are no UTF-8 stay inside their line; prompts that are
  // alike are drawn apart.
  Words drawn = words;
  drawn.insert(drawn.end(), {"--temperature", "3", "--max-tokens=40"});
  std::erase(drawn, "--max-tokens");
  std::erase(drawn, "12");
  const Words wild = lines(good(drawn).out);
  REQUIRE(wild.size() == 3);
  for (const std::string& line : wild) CHECK(Json::parse(line).is_string());
  CHECK(wild[0] != wild[2]);

  // One at a time or together, on one thread or more.
  Words slow = drawn;
  slow.insert(slow.end(), {"--batch", "1", "--threads", "2"});
  CHECK(lines(good(slow).out) == wild);

  drawn.push_back("--ids");
  const Words ids = lines(good(drawn).out);
  REQUIRE(ids.size() == 3);
  for (const std::string& line : ids) CHECK(Json::parse(line).is_array());
}

TEST_CASE("generate --chat continues what the template writes, and what the user typed is text") {
  const Lab lab;
  lab.put("t.jinja",
          "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
          "{% if add_generation_prompt %}assistant:{% endif %}");
  const auto say = [&](const Words& more) {
    Words words = {"generate", "--model", lab.model(), "--max-tokens", "12"};
    words.insert(words.end(), more.begin(), more.end());
    return good(words).out;
  };
  const Words chat = {"--chat", "--chat-template", lab.at("t.jinja")};
  const auto asked = [&](Words words) {
    words.insert(words.end(), chat.begin(), chat.end());
    return say(words);
  };
  CHECK(asked({"--prompt", "The fox"}) == say({"--prompt", "user: The fox\nassistant:"}));
  CHECK(asked({"--prompt", "The fox", "--system", "Be brief."}) ==
        say({"--prompt", "system: Be brief.\nuser: The fox\nassistant:"}));
  // Twenty special tokens fit the model; spelt out they do not.
  std::string specials;
  for (int i = 0; i < 20; ++i) specials += "<|endoftext|>";
  say({"--prompt", specials});
  check_refused(
      lab, {"generate", "--model", lab.model(), "--prompt", specials, chat[0], chat[1], chat[2]},
      {"--prompt", "64 positions"});
  check_refused(lab, {"generate", "--model", lab.model(), "--prompt", "a", "--chat"},
                {"--chat", "no chat template", "--chat-template"});
  check_refused(lab, {"generate", "--model", lab.model(), "--prompt", "a", "--system", "x"},
                {"--system", "--chat"});
}

TEST_CASE("generate ends before a stop word and draws as generation_config.json says") {
  const Lab lab;
  const auto say = [&](const Words& more) {
    Words words = {"generate",    "--model",      lab.model(), "--prompt",
                   "The fox saw", "--max-tokens", "20"};
    words.insert(words.end(), more.begin(), more.end());
    return good(words);
  };
  const std::string greedy = say({}).out;
  const std::string word = greedy.substr(greedy.size() / 2, 2);
  CHECK(say({"--stop", word}).out == greedy.substr(0, greedy.find(word)) + "\n");
  CHECK(say({"--stop", "never said", "--stop", word}).out == say({"--stop", word}).out);
  check_refused(lab, {"generate", "--model", lab.model(), "--prompt", "a", "--stop", ""},
                {"--stop"});

  CHECK(say({"--repetition-penalty", "5"}).out != greedy);
  CHECK(say({"--temperature", "2", "--min-p", "1"}).out == greedy);
  const fs::path file = fs::path(lab.model()) / "generation_config.json";
  Json config = fs::exists(file) ? Json::parse(std::ifstream(file)) : Json::object();
  config["do_sample"] = true;
  config["temperature"] = 3.0;
  config["top_k"] = 0;
  std::ofstream(file) << config.dump();
  const Result drawn = say({});
  CHECK(drawn.out != greedy);
  CHECK_THAT(drawn.err, Catch::Contains("--temperature 0"));
  CHECK(drawn.out == say({"--temperature", "3", "--seed", "42"}).out);
  CHECK(say({"--temperature", "0"}).out == greedy);
  config.erase("top_k");  // is 50 then, as in transformers
  std::ofstream(file) << config.dump();
  CHECK(say({}).out == say({"--temperature", "3", "--top-k", "50"}).out);
  config["temperature"] = -1;
  std::ofstream(file) << config.dump();
  check_refused(lab, {"generate", "--model", lab.model(), "--prompt", "a"},
                {"generation_config.json", "temperature"});
}

TEST_CASE("generate ends where generation_config.json says, before config.json") {
  const Lab lab;
  const auto ids = [&] {
    return Json::parse(good({"generate", "--model", lab.model(), "--prompt", "The fox saw", "--ids",
                             "--temperature", "0", "--max-tokens", "20"})
                           .out)
        .get<std::vector<int64_t>>();
  };
  const std::vector<int64_t> all = ids();
  REQUIRE(all.size() == 20);
  const int64_t end = all[5];
  lab.put("model/generation_config.json", Json{{"eos_token_id", end}}.dump());
  CHECK(ids() == std::vector<int64_t>(all.begin(), std::find(all.begin(), all.end(), end)));
}

TEST_CASE("inspect says what a thing is") {
  const Lab lab;
  good(lab.finetune({"--save-every", "3"}));
  const auto says = [&](const std::string& name, const Words& parts) {
    const Result result = good({"inspect", lab.at(name)});
    CHECK(result.err.empty());
    for (const std::string& part : parts) CHECK_THAT(result.out, Catch::Contains(part));
  };
  says("model", {"gpt2 model", "2 blocks", "vocabulary 539", "64 positions", "c_attn 32 -> 96"});
  says("model/model.safetensors", {"safetensors", "transformer.wte.weight", "[539, 32]"});
  says("run/adapter", {"LoRA adapter", "rank 2", "lora_A.weight"});
  says("run/checkpoints/step-3", {"checkpoint of step 3", "complete"});
  says("run/cache/train.tokens", {"token file", "1 documents"});
  says("run", {"run folder", "newest good checkpoint step-6", "summary.json"});
}

TEST_CASE("verify fails on a figure that is off or not a number") {
  const Lab lab;
  fs::copy(TENON_SOURCE_DIR "/tests/reference/cases/gpt2-small", lab.at("case"),
           fs::copy_options::recursive);
  CHECK(good({"verify", lab.at("case"), "--threads", "1"}).out.find("FAILED") == std::string::npos);
  const auto spoil = [&](float value) {
    lab.edit_tensors("case/expected.safetensors", [&](Json& header, std::string& data) {
      const int64_t begin = header["logits"]["data_offsets"][0];
      std::memcpy(data.data() + begin, &value, sizeof value);
    });
    const Result result = tenon({"verify", lab.at("case"), "--threads", "1"});
    CHECK(result.code == 4);
    CHECK_THAT(result.out, Catch::Matches("(.|\n)*  logits .*FAILED(.|\n)*"));
  };
  spoil(std::numeric_limits<float>::quiet_NaN());  // the first of many: those after it are good
  spoil(100);
}

TEST_CASE("verify refuses a case that is broken") {
  const Lab lab;
  fs::copy(TENON_SOURCE_DIR "/tests/reference/cases/gpt2-small", lab.at("case"),
           fs::copy_options::recursive);
  Json facts = Json::parse(lab.get("case/expected.json"));
  const auto broken = [&](const char* field, const Json& value) {
    Json changed = facts;
    changed[field] = value;
    lab.put("case/expected.json", changed.dump());
    const Result result = tenon({"verify", lab.at("case"), "--threads", "1"});
    CHECK(result.code == 2);
    CHECK(lines(result.err).size() == 1);
    CHECK_THAT(result.err, Catch::Contains("expected.json") && Catch::Contains(field));
  };
  broken("full_losses", {"a", "b"});
  broken("loss", "low");
  Json greedy = facts["greedy_from_first_8_tokens_of_row_0"];
  greedy[0] = 1'000'000;
  broken("greedy_from_first_8_tokens_of_row_0", greedy);
}

}  // namespace
}  // namespace tenon::test
