// SPDX-License-Identifier: Apache-2.0
// tenon evaluate as a user sees it: scores of pairs, losses by windows, answers, and a model beside
// itself without its adapter.
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

Json figures(const Words& words) {
  const Result result = tenon(words);
  INFO(result.err);
  REQUIRE(result.code == 0);
  REQUIRE(lines(result.out).size() == 1);
  return Json::parse(result.out);
}

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST_CASE("evaluate --score gives the figures of a file of pairs") {
  const Lab lab;
  const Json made = Json::parse(get_file(TENON_SOURCE_DIR "/tests/reference/scores/cases.json"));
  std::string pairs;
  double rouge1 = 0, rouge_lsum = 0;
  for (const Json& one : made.at("cases")) {
    pairs += Json{{"reference", one.at("reference")}, {"hypothesis", one.at("hypothesis")}}.dump();
    pairs += "\r\n\n";
    rouge1 += one.at("rouge1").get<double>() / static_cast<double>(made.at("cases").size());
    rouge_lsum += one.at("rougeLsum").get<double>() / static_cast<double>(made.at("cases").size());
  }
  lab.put("pairs.jsonl", pairs);
  const Result result = tenon({"evaluate", "--score", lab.at("pairs.jsonl")});
  REQUIRE(result.code == 0);
  const Json said = Json::parse(result.out);
  CHECK(said.at("pairs") == made.at("cases").size());
  CHECK(said.at("bleu").get<double>() ==
        Approx(made.at("corpus").at("bleu").get<double>()).epsilon(1e-9));
  CHECK(said.at("rouge1").get<double>() == Approx(rouge1).epsilon(1e-9));
  CHECK(said.at("rougeLsum").get<double>() == Approx(rouge_lsum).epsilon(1e-9));
  CHECK_THAT(said.at("bleu_signature").get<std::string>(),
             Catch::StartsWith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:tenon-"));
  // A reference in other digits than 0-9 has no word for ROUGE.
  CHECK_THAT(result.err, Catch::StartsWith("tenon: warning: 1 of ") && Catch::Contains("ROUGE"));
}

TEST_CASE("evaluate names the fields of the data that it does not read, once") {
  const Lab lab;
  lab.put("qa.jsonl",
          "{\"prompt\": \"The fox\", \"completion\": \" saw\", \"grade\": 3}\n"
          "{\"prompt\": \"The dog\", \"completion\": \" ran\", \"grade\": 4}\n");
  for (const Words& task : std::vector<Words>{{}, {"--task", "generate", "--max-tokens", "2"}}) {
    const Result result =
        tenon(with({"evaluate", "--model", lab.model(), "--data", lab.at("qa.jsonl")}, task));
    INFO(result.err);
    CHECK(result.code == 0);
    const size_t at = result.err.find("fields not read: grade");
    CHECK(at != std::string::npos);
    CHECK(result.err.find("fields not read", at + 1) == std::string::npos);
  }
}

TEST_CASE("evaluate --score refuses what is no pair, by its line") {
  const Lab lab;
  const std::string good = "{\"hypothesis\": \"a\", \"reference\": \"b\"}\n";
  const auto refused = [&](const std::string& text, const Words& parts) {
    lab.put("pairs.jsonl", text);
    check_refused(lab, {"evaluate", "--score", lab.at("pairs.jsonl")},
                  with(parts, {"pairs.jsonl"}));
  };
  refused("", {"empty file"});
  refused(" \n\n", {"hypothesis"});
  refused(good + "{\"hypothesis\": \"a\"}\n", {"pairs.jsonl:2", "reference", "missing"});
  refused(good + good + "{\"hypothesis\": 1, \"reference\": \"b\"}",
          {"pairs.jsonl:3", "hypothesis", "1"});
  refused(good + "{\"hypothesis\": \"a\", \"reference\": null}", {"pairs.jsonl:2", "reference"});
  refused(good + "[\"a\", \"b\"]\n", {"pairs.jsonl:2", "object"});
  refused(good + good.substr(0, 20), {"pairs.jsonl:2"});
  refused(good + "{\"hypothesis\": \"\xFF\", \"reference\": \"b\"}\n", {"pairs.jsonl:2", "UTF-8"});
  check_refused(lab, {"evaluate", "--score", lab.at("none.jsonl")}, {"none.jsonl"});
}

TEST_CASE("evaluate refuses flags that do not go together") {
  const Lab lab;
  lab.put("qa.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
  const Words model = {"evaluate", "--model", lab.model(), "--data", lab.data()};
  check_refused(lab, {"evaluate"}, {"--model", "--score"});
  check_refused(lab, {"evaluate", "--data", lab.data()}, {"--model"});
  check_refused(lab, {"evaluate", "--score", lab.data(), "--model", lab.model()}, {"--model"});
  check_refused(lab, with(model, {"--compare-base"}), {"--compare-base", "--adapter"});
  check_refused(lab, with(model, {"--stride", "4", "--packing", "none"}), {"--stride"});
  check_refused(lab, with(model, {"--stride", "65"}), {"--stride", "1..64", "65"});
  check_refused(lab, with(model, {"--stride", "1", "--seq-len", "1"}), {"--stride"});
  check_refused(lab, with(model, {"--temperature", "1"}), {"--temperature", "--task generate"});
  check_refused(lab, with(model, {"--samples", lab.at("s")}), {"--samples", "--task generate"});
  check_refused(lab, with(model, {"--task", "generate", "--stride", "4"}), {"--stride"});
  check_refused(lab, with(model, {"--task", "generate", "--force"}), {"--force", "--samples"});
  check_refused(lab, with(model, {"--task", "generate"}), {"data.txt", "plain text"});
  check_refused(lab,
                {"evaluate", "--model", lab.model(), "--data", lab.at("qa.jsonl"), "--stride", "4"},
                {"plain text", "prompts"});
}

TEST_CASE("evaluate gives bits per byte, and windows more context") {
  const Lab lab;
  const Words words = {"evaluate", "--model", lab.model(), "--data", lab.data(), "--seq-len", "16"};
  const Json rows = figures(words);
  CHECK(rows.at("bits_per_byte").get<double>() ==
        Approx(rows.at("loss").get<double>() * rows.at("tokens").get<double>() / std::log(2.0) /
               rows.at("bytes").get<double>()));
  // All but the first token's bytes; the end-of-text token that is predicted too has none.
  const auto size = static_cast<int64_t>(sentences(120).size());
  const int64_t bytes = rows.at("bytes");
  CHECK(bytes < size);
  CHECK(bytes > size - 20);

  const Json windows = figures(with(words, {"--stride", "5"}));
  CHECK(windows.at("tokens") == rows.at("tokens").get<int64_t>() - 1);  // no end of text
  CHECK(windows.at("bytes") == rows.at("bytes"));
  CHECK(windows.at("context") == 16);
  CHECK(windows.at("stride") == 5);
  CHECK(figures(with(words, {"--stride", "5", "--micro-batch", "3", "--threads", "2"}))
            .at("loss")
            .get<double>() == Approx(windows.at("loss").get<double>()).epsilon(1e-6));
}

TEST_CASE("evaluate stops at a limit") {
  const Lab lab;
  lab.put("d.jsonl",
          "{\"text\": \"The fox saw.\"}\n{\"text\": \"Nobody.\"}\n{\"text\": \"x y\"}\n");
  lab.put("two.jsonl", "{\"text\": \"The fox saw.\"}\n{\"text\": \"Nobody.\"}\n");
  const auto of = [&](const std::string& name, const Words& more) {
    return figures(with({"evaluate", "--model", lab.model(), "--data", lab.at(name)}, more));
  };
  CHECK(of("d.jsonl", {"--limit", "2"}) == of("two.jsonl", {}));
  CHECK(of("d.jsonl", {"--limit", "3"}) == of("d.jsonl", {}));
}

TEST_CASE("evaluate shows the base beside its adapter") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--lr", "0.05"})).code == 0);
  const Words base = {"evaluate", "--model", lab.model(), "--data", lab.data()};
  const Words adapter = with(base, {"--adapter", lab.at("run/adapter")});
  const Result result = tenon(with(adapter, {"--compare-base"}));
  REQUIRE(result.code == 0);
  CHECK(Json::parse(result.out) == Json{{"base", figures(base)}, {"adapter", figures(adapter)}});
  const Words table = lines(result.err);
  REQUIRE(table.size() == 4);
  CHECK_THAT(table[0], Catch::Contains("base") && Catch::EndsWith("change"));
  CHECK_THAT(table[1], Catch::StartsWith("loss ") && Catch::Contains("-0."));
}

// The samples of a run, and that they agree with its figures.
std::vector<Json> samples_of(const Lab& lab, const std::string& name, const Json& said) {
  std::vector<Json> samples;
  std::string pairs;
  for (const std::string& line : lines(lab.get(name))) {
    samples.push_back(Json::parse(line));
    pairs += Json{{"hypothesis", samples.back().at("answer")},
                  {"reference", samples.back().at("reference")}}
                 .dump() +
             "\n";
  }
  lab.put("again.jsonl", pairs);
  const Json again = figures({"evaluate", "--score", lab.at("again.jsonl")});
  for (const auto& [key, value] : again.items()) CHECK(said.at(key) == value);
  return samples;
}

TEST_CASE("evaluate --task generate scores a model's answers and keeps them") {
  const Lab lab;
  std::string data;
  const Words prompts = {"The fox saw", "Nobody", "The old river ran", "A", "The fox saw the hill"};
  for (const std::string& prompt : prompts)
    data += Json{{"prompt", prompt}, {"completion", " the river."}}.dump() + "\n";
  lab.put("qa.jsonl", data);
  const Words words = {"evaluate",        "--model",      lab.model(), "--task",
                       "generate",        "--data",       "",          "--samples",
                       lab.at("s.jsonl"), "--max-tokens", "9"};
  const auto run_on = [&](const std::string& name, const Words& more) {
    Words all = with(words, more);
    all[6] = lab.at(name);
    return all;
  };
  const Json said = figures(run_on("qa.jsonl", {}));
  const std::vector<Json> samples = samples_of(lab, "s.jsonl", said);
  REQUIRE(samples.size() == 5);
  std::string self;
  for (size_t i = 0; i < 5; ++i) {
    const Json& sample = samples[i];
    CHECK(sample.at("prompt") == prompts[i]);
    CHECK(sample.at("reference") == " the river.");
    CHECK_THAT(sample.at("place").get<std::string>(),
               Catch::EndsWith("qa.jsonl:" + std::to_string(i + 1)));
    const Result alone =
        tenon({"generate", "--model", lab.model(), "--prompt", prompts[i], "--max-tokens", "9"});
    CHECK(sample.at("answer").get<std::string>() + "\n" == alone.out);
    self += Json{{"prompt", prompts[i]}, {"completion", sample.at("answer")}}.dump() + "\n";
  }

  // A file of samples is not lost by a second run.
  Words again = run_on("qa.jsonl", {"--batch", "2", "--threads", "2"});
  check_refused(lab, again, {"s.jsonl", "exists already", "--force"});
  CHECK(figures(with(again, {"--force"})) == said);

  // What a model says itself is a perfect answer.
  lab.put("self.jsonl", self);
  const Json perfect = figures(run_on("self.jsonl", {"--force"}));
  CHECK(perfect.at("exact_match") == 1);
  CHECK(perfect.at("bleu").get<double>() == Approx(100));
  CHECK(perfect.at("generated_tokens") == said.at("generated_tokens"));
  CHECK(figures(run_on("self.jsonl", {"--force", "--limit", "2"})).at("pairs") == 2);
}

TEST_CASE("evaluate --task generate of base and adapter keeps both answers") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--lr", "0.5"})).code == 0);
  lab.put("qa.jsonl", "{\"prompt\": \"The fox\", \"completion\": \" saw\"}\n");
  const Words words = {"evaluate", "--model",   lab.model(),        "--task",
                       "generate", "--data",    lab.at("qa.jsonl"), "--max-tokens",
                       "8",        "--samples", lab.at("s.jsonl")};
  const Json base = figures(words);
  const Json alone = Json::parse(lab.get("s.jsonl"));
  const Json both =
      figures(with(words, {"--force", "--adapter", lab.at("run/adapter"), "--compare-base"}));
  CHECK(both.at("base") == base);
  const Json sample = Json::parse(lab.get("s.jsonl"));
  CHECK(sample.at("base").at("answer") == alone.at("answer"));
  CHECK(sample.at("answer") != alone.at("answer"));
}

TEST_CASE("evaluate --task generate: prompts that do not fit") {
  const Lab lab;
  lab.put("qa.jsonl", "{\"prompt\": \"The fox\", \"completion\": \" saw\"}\n" +
                          Json{{"prompt", sentences(40)}, {"completion", "x"}}.dump() + "\n");
  const Words words = {"evaluate", "--model",          lab.model(),    "--task", "generate",
                       "--data",   lab.at("qa.jsonl"), "--max-tokens", "4"};
  check_refused(lab, words, {"qa.jsonl:2", "64 positions", "--overlong drop"});
  const Result dropped = tenon(with(words, {"--overlong", "drop"}));
  REQUIRE(dropped.code == 0);
  CHECK(Json::parse(dropped.out).at("pairs") == 1);
  CHECK_THAT(dropped.err, Catch::Contains("1 prompts left out"));
}

}  // namespace
}  // namespace tenon::test
