// SPDX-License-Identifier: Apache-2.0
// What a run leaves behind for those who use its result: the template that it was trained with, where
// answers end, a card; what its tokens depend on; and what is gone on with from a checkpoint.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "core/safetensors.h"
#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

Result good(const Words& words, const Environment& environment = {}) {
  const Result result = tenon(words, environment);
  INFO(result.err);
  REQUIRE(result.code == 0);
  return result;
}

Words joined(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// Conversations of a turn each, and with tools where asked.
std::string chats(int count, bool tools = false) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    Json record = {{"messages",
                    {{{"role", "user"}, {"content", "The fox " + std::to_string(i)}},
                     {{"role", "assistant"}, {"content", "saw the sea."}}}}};
    if (tools) record["tools"] = {{{"name", "find"}}};
    text += record.dump() + "\n";
  }
  return text;
}

constexpr const char* kTemplate =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}";

// A lab whose model has a template of its own, and conversations to train on.
class ChatLab : public Lab {
 public:
  ChatLab() {
    put("model/chat_template.jinja", kTemplate);
    put("model/additional_chat_templates/tool_use.jinja", std::string("Tools. ") + kTemplate);
    put("chat.jsonl", chats(12));
  }
  Words train(const Words& more = {}) const {
    return finetune(joined({"--data", at("chat.jsonl"), "--seq-len", "48"}, more));
  }
};

const Words kTemplates = {"chat_template.jinja", "additional_chat_templates/tool_use.jinja"};

TEST_CASE("results hold the model's templates, tokenizer and a card") {
  const ChatLab lab;
  good(lab.train({"--val-split", "0.2"}));
  good(lab.train({"--method", "full", "--out", lab.at("full"), "--val-split", "0.2"}));
  good({"merge", "--model", lab.model(), "--adapter", lab.at("run/adapter"), "--out",
        lab.at("merged")});
  good({"convert", "--model", lab.model(), "--out", lab.at("converted")});
  for (const char* result : {"run/adapter", "run/adapter-best", "full/model", "full/model-best",
                             "merged", "converted"}) {
    INFO(result);
    const std::string folder = std::string(result) + "/";
    for (const std::string& name : joined(kTemplates, {"tokenizer.json"}))
      CHECK(lab.get(folder + name) == lab.get("model/" + name));
    CHECK(lab.get(folder + "README.md").starts_with("---\nbase_model: \"" + lab.model()));
    good({"inspect", lab.at(result)});
  }
  // The template ends a turn with the end-of-text token of this model.
  for (const char* result : {"run/adapter", "full/model", "merged"}) {
    CHECK(
        Json::parse(lab.get(std::string(result) + "/generation_config.json")).at("eos_token_id") ==
        Json::parse("[0]"));
  }
  CHECK_FALSE(lab.has("converted/generation_config.json"));
  CHECK_THAT(lab.get("run/adapter/README.md"), Catch::Contains("`chat.jsonl`") &&
                                                   Catch::Contains("lowest validation loss") &&
                                                   Catch::Contains("| rank | `2` |"));
  // A checkpoint is for going on.
  CHECK_FALSE(lab.has("run/checkpoints/step-6/adapter/tokenizer.json"));
  // What is there may be overwritten as a model.
  good({"convert", "--model", lab.model(), "--out", lab.at("merged"), "--force"});
  lab.put("merged/additional_chat_templates/mine.txt", "mine");
  check_refused(lab, {"convert", "--model", lab.model(), "--out", lab.at("merged"), "--force"},
                {"merged"});
}

TEST_CASE("results hold the template that was trained with, and generate takes the adapter's") {
  const ChatLab lab;
  const std::string mine = std::string("Mine. ") + kTemplate;
  lab.put("mine.jinja", mine);
  const Words given = {"--chat-template", lab.at("mine.jinja"), "--lr", "0.05", "--steps", "8"};
  good(lab.train(given));
  good(lab.train(joined(given, {"--method", "full", "--out", lab.at("full")})));
  good({"merge", "--model", lab.model(), "--adapter", lab.at("run/adapter"), "--out",
        lab.at("merged")});
  for (const char* result : {"run/adapter", "full/model", "merged"}) {
    INFO(result);
    CHECK(lab.get(std::string(result) + "/chat_template.jinja") == mine);
    CHECK_FALSE(lab.has(std::string(result) + "/additional_chat_templates"));
  }
  good(lab.train({"--chat-template", "zephyr", "--out", lab.at("named")}));
  CHECK_THAT(lab.get("named/adapter/chat_template.jinja"), Catch::Contains("'<|' ~ message.role"));

  const auto said = [&](const Words& more) {
    return good(joined({"generate", "--model", lab.model(), "--adapter", lab.at("run/adapter"),
                        "--chat", "--prompt", "The fox 1", "--max-tokens", "12"},
                       more))
        .out;
  };
  CHECK(said({}) == said({"--chat-template", lab.at("mine.jinja")}));
  CHECK(said({}) != said({"--chat-template", lab.at("model/chat_template.jinja")}));
  // Going on from the adapter, and evaluating it, too.
  const Result more = good(lab.train({"--adapter", lab.at("run/adapter"), "--out", lab.at("more"),
                                      "--show-sample", "--steps", "1"}));
  CHECK_THAT(more.err, Catch::Contains("Mine. user: The fox"));
  CHECK(lab.get("more/adapter/chat_template.jinja") == mine);
  const auto loss = [&](const Words& words) {
    return Json::parse(good(joined({"evaluate", "--model", lab.model(), "--adapter",
                                    lab.at("run/adapter"), "--data", lab.at("chat.jsonl")},
                                   words))
                           .out)
        .at("loss")
        .get<double>();
  };
  CHECK(loss({}) == loss({"--chat-template", lab.at("mine.jinja")}));
  CHECK(loss({}) != loss({"--chat-template", lab.at("model/chat_template.jinja")}));
}

TEST_CASE("adapters of several templates leave a merged model the base's") {
  const ChatLab lab;
  lab.put("mine.jinja", std::string("Mine. ") + kTemplate);
  good(lab.train({"--out", lab.at("a"), "--chat-template", lab.at("mine.jinja")}));
  good(lab.train({"--out", lab.at("b"), "--chat-template", "plain"}));
  const Result merged = good({"merge", "--model", lab.model(), "--adapter", lab.at("a/adapter"),
                              lab.at("b/adapter"), "--out", lab.at("merged")});
  CHECK_THAT(merged.err, Catch::Contains("several chat templates"));
  CHECK(lab.get("merged/chat_template.jinja") == kTemplate);
}

TEST_CASE("every file that tokens depend on is seen by the next run") {
  const ChatLab lab;
  lab.put("chat.jsonl", chats(6, true));
  lab.put("model/tokenizer_config.json", R"({"eos_token": "<|endoftext|>"})");
  const auto sample = [&](const Words& more = {}) {
    return good(lab.train(joined({"--show-sample", "--force", "--steps", "1"}, more))).err;
  };
  CHECK_THAT(sample(), Catch::Contains("Tools. user: The fox 0"));
  lab.put("model/additional_chat_templates/tool_use.jinja", std::string("Functions. ") + kTemplate);
  CHECK_THAT(sample(), Catch::Contains("Functions. user: The fox 0"));
  lab.put("model/additional_chat_templates/tool_use.jinja",
          std::string("{{ eos_token }}{{ strftime_now('%d %b %Y') }} ") + kTemplate);
  CHECK_THAT(sample({"--date", "2024-07-26"}), Catch::Contains("<|endoftext|>26 Jul 2024 user"));
  CHECK_THAT(sample({"--date", "2025-01-02"}), Catch::Contains("02 Jan 2025 user"));
  lab.put("model/tokenizer_config.json", R"({"eos_token": "!"})");
  CHECK_THAT(sample({"--date", "2025-01-02"}), Catch::Contains("!02 Jan 2025 user"));
  // A template that is given by a file.
  lab.put("mine.jinja", std::string("One. ") + kTemplate);
  const Words given = {"--chat-template", lab.at("mine.jinja")};
  CHECK_THAT(sample(given), Catch::Contains("One. user"));
  lab.put("mine.jinja", std::string("Two. ") + kTemplate);
  CHECK_THAT(sample(given), Catch::Contains("Two. user"));
}

TEST_CASE("the day is taken once, written down and kept by a run that goes on") {
  const ChatLab lab;
  lab.put("model/chat_template.jinja", std::string("{{ strftime_now('%Y-%m-%d') }} ") + kTemplate);
  const Words words = lab.train({"--save-every", "2", "--show-sample"});
  const Result first = good(words, {{"TZ", "XXX12"}});
  const size_t at = first.err.find(" user: The fox 0");
  REQUIRE(at != first.err.npos);
  const std::string day = first.err.substr(at - 10, 10);
  CHECK_THAT(lab.get("run/config.yaml"), Catch::Contains("\ndate: " + day + "\n"));
  // Twelve hours beyond Greenwich it is another day.
  fs::remove_all(lab.at("run/checkpoints/step-6"));
  fs::remove_all(lab.at("run/cache"));
  const Result again = good(joined(words, {"--resume", "auto"}), {{"TZ", "XXX-12"}});
  CHECK_THAT(again.err, Catch::Contains(day + " user: The fox 0"));
  CHECK_THAT(again.err, Catch::Contains("step-4"));
  const std::string weights = lab.get("run/adapter/adapter_model.safetensors");
  good({"finetune", "--config", lab.at("run/config.yaml"), "--out", lab.at("other")},
       {{"TZ", "XXX-12"}});
  CHECK(lab.get("other/adapter/adapter_model.safetensors") == weights);
  // A template that asks for no day has none.
  const ChatLab plain;
  good(plain.train());
  CHECK_THAT(plain.get("run/config.yaml"), Catch::Contains("\ndate: ~\n"));
}

TEST_CASE("an end of turn that is no token is told at the start") {
  const ChatLab lab;
  const auto said = [&](const std::string& marker, const Words& more = {}) {
    lab.put("t.jinja", "{% for m in messages %}{{ m.content }}" + marker + "\n{% endfor %}");
    return good(lab.train(joined({"--chat-template", lab.at("t.jinja"), "--force"}, more))).err;
  };
  CHECK_THAT(said("<|im_end|>"), Catch::Contains("end of turn \"<|im_end|>\" is no special token"));
  CHECK_FALSE(lab.has("run/adapter/generation_config.json"));
  CHECK_THAT(said(""), Catch::Contains("no end of turn"));
  CHECK_THAT(said("<|endoftext|>"), !Catch::Contains("end of turn"));
  // Where the data holds no conversations nothing is to end.
  CHECK_THAT(said("<|im_end|>", {"--data", lab.data()}), !Catch::Contains("end of turn"));
}

TEST_CASE("turns that the template leaves out are counted at the start") {
  const ChatLab lab;
  lab.put("t.jinja",
          "{% for m in messages %}{% if m.role != 'assistant' or loop.last %}{{ m.content }}"
          "<|endoftext|>{% endif %}{% endfor %}");
  std::string lines;
  for (int i = 0; i < 5; ++i) {
    lines +=
        R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": )"
        R"("first"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "b"}]})"
        "\n";
  }
  lab.put("two.jsonl", lines);
  const Words words = {
      "--chat-template", lab.at("t.jinja"), "--data", lab.at("two.jsonl"), "--batch", "2",
      "--force"};
  CHECK_THAT(good(lab.train(words)).err,
             Catch::Contains("5 turns of the assistant are not learnt"));
  // From the cache as well, and not where all is learnt.
  CHECK_THAT(good(lab.train(joined(words, {"--seed", "3"}))).err,
             Catch::Contains("5 turns of the assistant are not learnt"));
  CHECK_THAT(good(lab.train(joined(words, {"--train-on", "everything"}))).err,
             !Catch::Contains("not learnt"));
}

TEST_CASE("an explicit rate of 0 moves nothing") {
  const Lab lab;
  good(lab.finetune({"--lr", "0", "--steps", "2"}));
  const SafetensorsFile file =
      SafetensorsFile::open(lab.at("run/adapter/adapter_model.safetensors"));
  for (const TensorEntry& entry : file.entries()) {
    if (entry.name.find("lora_B") == std::string::npos) continue;
    const auto* values = reinterpret_cast<const float*>(entry.data);
    CHECK(std::all_of(values, values + entry.elements(), [](float v) { return v == 0; }));
  }
  CHECK_THAT(lab.get("run/config.yaml"), Catch::Contains("\nlr: 0\n"));
  // Nor is an empty word nothing.
  for (const char* flag : {"--adapter", "--resume", "--model", "--val", "--chat-template"})
    check_refused(lab, lab.finetune({flag, "", "--out", lab.at("other")}),
                  {flag, "expected a value"});
}

TEST_CASE("config.yaml holds what was resolved, all of an adapter's fields too") {
  const Lab lab;
  good(lab.finetune({"--targets", "c_attn,c_fc", "--rank-pattern", "c_fc=1", "--layers", "1",
                     "--bias", "lora_only", "--steps", "2"}));
  good(lab.finetune({"--adapter", lab.at("run/adapter"), "--out", lab.at("on"), "--rank", "7",
                     "--val-split", "0.2", "--threads", "2"}));
  const std::string config = lab.get("on/config.yaml");
  for (const char* line : {"rank: 2", "targets: [c_attn, c_fc]", "layers: [1]", "bias: lora_only",
                           "micro-batch: 4", "threads: 2", "eval-every: 1", "lr: 0.0002",
                           "seq-len: 16", "device: cpu", "force: false", "resume: ~"}) {
    INFO(line << "\n" << config);
    CHECK(("\n" + config).find(std::string("\n") + line + "\n") != std::string::npos);
  }
  CHECK_THAT(config, Catch::Contains("rank-pattern: [") && Catch::Contains("c_fc=1"));
  const auto repeats = [&](const char* run, const char* other) {
    good({"finetune", "--config", lab.at(std::string(run) + "/config.yaml"), "--out",
          lab.at(other)});
    CHECK(list(lab.at(std::string(run) + "/adapter")) ==
          list(lab.at(std::string(other) + "/adapter")));
    CHECK(lab.metrics("loss", run) == lab.metrics("loss", other));
  };
  repeats("on", "again");
  // Of a run that went on from a checkpoint too.
  fs::remove_all(lab.at("on/checkpoints/step-6"));
  good(lab.finetune({"--adapter", lab.at("run/adapter"), "--out", lab.at("on"), "--val-split",
                     "0.2", "--resume", "auto"}));
  repeats("on", "third");
}

TEST_CASE("a run goes on with less memory, and further with a constant rate") {
  const Lab lab;
  const Words words = {"--save-every", "2", "--lr", "0.01", "--keep", "9"};
  good(lab.finetune(words));
  const Words whole = lab.metrics("loss");
  const auto go_on = [&](const Words& more) {
    fs::remove_all(lab.at("run/checkpoints/step-6"));
    good(joined(lab.finetune(joined(words, more)), {"--resume", "auto"}));
    const Words losses = lab.metrics("loss");
    REQUIRE(losses.size() == 6);
    for (size_t i = 0; i < 6; ++i)
      CHECK(std::fabs(std::stod(losses[i]) - std::stod(whole[i])) <= 1e-6);
  };
  go_on({"--micro-batch", "1"});
  go_on({"--checkpoint-activations"});
  go_on({"--device", "cpu", "--threads", "2", "--log-every", "3"});
  lab.copy("data.txt", "moved.txt");
  go_on({"--data", lab.at("moved.txt")});

  const Words longer = joined(lab.finetune({"--steps", "9", "--lr", "0.01"}), {"--resume", "auto"});
  check_refused(lab, longer, {"steps: now 9, then 6", "--schedule cosine"}, 3);
  check_refused(lab, joined(lab.finetune({"--lr", "0.02"}), {"--resume", "auto"}),
                {"--lr: now 0.02, then 0.01"}, 3);

  const Words constant = {"--schedule", "constant", "--warmup", "0.4", "--lr", "0.01"};
  good(lab.finetune(joined(constant, {"--out", lab.at("c"), "--steps", "5"})));
  good(joined(lab.finetune(joined(constant, {"--out", lab.at("c"), "--steps", "9"})),
              {"--resume", "auto"}));
  good(lab.finetune({"--schedule", "constant", "--warmup", "2", "--lr", "0.01", "--out",
                     lab.at("d"), "--steps", "9"}));
  CHECK(lab.metrics("loss", "c") == lab.metrics("loss", "d"));
  CHECK(lab.metrics("lr", "c") == lab.metrics("lr", "d"));
  CHECK_THAT(lab.get("c/config.yaml"), Catch::Contains("\nwarmup: 2\n"));
  good(joined(lab.finetune(joined(constant, {"--out", lab.at("c"), "--steps", "10"})),
              {"--resume", "auto"}));
  CHECK(lab.metrics("step", "c").size() == 10);
}

TEST_CASE("a run that cannot be gone on with stays as it is, its cache too") {
  const Lab lab;
  good(lab.finetune());
  lab.put("other.txt", sentences(90));
  const auto listed = [&] {
    Listing listing = list(lab.at("run"));
    listing.erase(".lock");
    return listing;
  };
  const Listing before = listed();
  const Result refused =
      tenon(joined(lab.finetune({"--data", lab.at("other.txt")}), {"--resume", "auto"}));
  CHECK(refused.code == 3);
  CHECK_THAT(refused.err, Catch::Contains("tokens: now ") && Catch::Contains("data content: now "));
  CHECK(listed() == before);
  // A cache that is gone comes back with the run.
  fs::remove(lab.at("run/cache/train.tokens"));
  fs::remove_all(lab.at("run/checkpoints/step-6"));
  good(joined(lab.finetune(), {"--resume", "auto"}));
  CHECK(listed().at("cache/train.tokens") == before.at("cache/train.tokens"));
  CHECK(list(lab.at("run/cache")).size() == 1);
}

TEST_CASE("a run does not replace what it reads") {
  const Lab lab;
  good(lab.finetune());
  const Words words = lab.finetune({"--force", "--adapter", lab.at("run/adapter")});
  check_refused(lab, words, {"--out", lab.at("run/adapter")});
  lab.put("run/adapter/mine.jinja", "{{ messages }}");
  check_refused(lab, lab.finetune({"--force", "--chat-template", lab.at("run/adapter/mine.jinja")}),
                {"--out", "mine.jinja"});
}

TEST_CASE("messages name the user's files") {
  const Lab lab;
  std::string lines;
  for (int i = 0; i < 4; ++i) {
    lines += "\n" + Json{{"prompt", sentences(i == 1 ? 1 : 8)}, {"completion", " Yes."}}.dump();
  }
  lab.put("long.jsonl", lines + "\n");
  for (const char* flag : {"--data", "--val"}) {
    check_refused(lab, lab.finetune({flag, lab.at("long.jsonl"), "--seq-len", "8"}),
                  {std::string(flag) + " ", "long.jsonl", "--seq-len 8"});
    check_refused(
        lab, lab.finetune({flag, lab.at("long.jsonl"), "--seq-len", "8", "--overlong", "drop"}),
        {"long.jsonl", "--overlong drop"});
    // The first record that is too long stands behind an empty line.
    check_refused(
        lab, lab.finetune({flag, lab.at("long.jsonl"), "--seq-len", "48", "--overlong", "error"}),
        {lab.at("long.jsonl") + ":2: a sample of ", "--seq-len 48"});
  }
  check_refused(
      lab, {"evaluate", "--model", lab.model(), "--data", lab.at("long.jsonl"), "--seq-len", "8"},
      {"long.jsonl", "--seq-len 8"});
}

TEST_CASE("warm-up shares and evaluations that do not come out even") {
  const Lab lab;
  good(lab.finetune({"--steps", "25", "--warmup", "0.1", "--schedule", "constant", "--lr", "0.04",
                     "--val-split", "0.2", "--eval-every", "7"}));
  const Words rates = lab.metrics("lr"), losses = lab.metrics("val_loss");
  REQUIRE(rates.size() == 25);
  // 2.5 steps are 3, then the peak.
  for (size_t i = 0; i < 25; ++i) {
    const double rate = 0.04 * static_cast<double>(std::min<size_t>(i + 1, 4)) / 4;
    CHECK(std::stod(rates[i]) == Approx(rate).epsilon(1e-12));
    const bool evaluated = i + 1 == 7 || i + 1 == 14 || i + 1 == 21 || i + 1 == 25;
    CHECK(losses[i].empty() != evaluated);
  }
}

// The values of every lora_B of a result, one behind the other.
std::vector<float> factors(const Lab& lab, const std::string& run) {
  std::vector<float> all;
  const SafetensorsFile file =
      SafetensorsFile::open(lab.at(run + "/adapter/adapter_model.safetensors"));
  for (const TensorEntry& entry : file.entries()) {
    if (entry.name.find("lora_B") == std::string::npos) continue;
    const auto* values = reinterpret_cast<const float*>(entry.data);
    all.insert(all.end(), values, values + entry.elements());
  }
  return all;
}

// Runs on one batch, again and again, at a rate so low that its gradient stays what it was.
std::vector<float> trained(const Lab& lab, const std::string& run, const Words& more) {
  good(lab.finetune(
      joined({"--out", lab.at(run), "--schedule", "constant", "--warmup", "0", "--clip", "0",
              "--data", lab.at("one.jsonl"), "--batch", "1", "--targets", "c_attn"},
             more)));
  return factors(lab, run);
}

TEST_CASE("the options --optimizer and --momentum come to the update") {
  const Lab lab;
  lab.put("one.jsonl", "{\"text\": \"The fox saw the sea.\"}\n");
  const Words sgd = {"--optimizer", "sgd", "--lr", "1e-4"};
  const auto after = [&](const std::string& run, const Words& more) {
    return trained(lab, run, joined(sgd, more));
  };
  const std::vector<float> one = after("one", {"--steps", "1", "--momentum", "0"});
  // With momentum m three steps of a gradient g come to lr g (1 + (1 + m) + (1 + m + m^2)).
  for (const double m : {0.0, 0.5, 0.9}) {
    const std::string name = fmt::format("{}", m);
    const std::vector<float> three = after("m" + name, {"--steps", "3", "--momentum", name});
    double norm = 0, dot = 0;
    for (size_t i = 0; i < one.size(); ++i) {
      norm += static_cast<double>(one[i]) * one[i];
      dot += static_cast<double>(one[i]) * three[i];
    }
    REQUIRE(norm > 0);
    // The gradient changes by less than a thousandth over weights that have moved by 1e-4 of it.
    CHECK(dot / norm == Approx(3 + 2 * m + m * m).epsilon(1e-3));
  }
}

TEST_CASE("the options --beta1, --beta2 and --eps come to the update") {
  const Lab lab;
  lab.put("one.jsonl", "{\"text\": \"The fox saw the sea.\"}\n");
  constexpr double kRate = 1e-3;
  const auto after = [&](const std::string& run, const Words& more) {
    return trained(lab, run, joined({"--lr", "1e-3", "--steps", "3"}, more));
  };
  // Without memory AdamW moves each weight by the rate, whatever the size of its gradient.
  const auto whole_steps = [&](const std::vector<float>& values) {
    size_t moved = 0, whole = 0;
    for (const float value : values) {
      if (value == 0) continue;
      ++moved;
      const double steps = std::fabs(value) / kRate;
      whole += std::fabs(steps - 1) < 1e-3 || std::fabs(steps - 3) < 1e-3 ? 1 : 0;
    }
    REQUIRE(moved > 0);
    return static_cast<double>(whole) / static_cast<double>(moved);
  };
  const Words none = {"--beta1", "0", "--beta2", "0", "--eps", "1e-30"};
  const std::vector<float> bare = after("bare", none);
  CHECK(whole_steps(bare) > 0.99);
  CHECK(after("b1", {"--beta1", "0.5", "--beta2", "0", "--eps", "1e-30"}) != bare);
  CHECK(after("b2", {"--beta1", "0", "--beta2", "0.5", "--eps", "1e-30"}) != bare);
  // An eps far above every gradient makes of it a step of lr g / eps, next to nothing.
  const std::vector<float> eased = after("eps", {"--beta1", "0", "--beta2", "0", "--eps", "1"});
  for (size_t i = 0; i < bare.size(); ++i) CHECK(std::fabs(eased[i]) <= std::fabs(bare[i]));
  CHECK(whole_steps(eased) < 0.01);
}

}  // namespace
}  // namespace tenon::test
