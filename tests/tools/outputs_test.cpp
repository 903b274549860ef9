// SPDX-License-Identifier: Apache-2.0
// Where commands write: never over what they read, over nothing without --force, and with it over
// nothing that Tenon did not make. And what happens to a run whose folder is taken away.
#include <signal.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// Other names of a file in the lab: a link, a hard link, a detour.
Words names_of(const Lab& lab, const std::string& name) {
  fs::create_symlink(lab.at(name), lab.at("link-to"));
  fs::create_hard_link(lab.at(name), lab.at("hard-link-to"));
  return {lab.at(name), lab.at("link-to"), lab.at("hard-link-to"), lab.at("model/../" + name)};
}

}  // namespace

TEST_CASE("tokenize writes over token files alone, and never over what it reads") {
  const Lab lab;
  const Words words = {"tokenize", "--model", lab.model(), "--data", lab.data(), "--threads", "1"};
  for (const std::string& name : names_of(lab, "data.txt")) {
    for (const Words& force : {Words{}, Words{"--force"}})
      check_refused(lab, with(with(words, {"--out", name}), force), {"--out", "which is read"});
  }
  const Words out = with(words, {"--out", lab.at("t.tokens")});
  REQUIRE(tenon(out).code == 0);
  check_refused(lab, out, {"t.tokens", "exists already", "--force"});
  const std::string before = lab.get("t.tokens");
  CHECK(tenon(with(out, {"--force"})).code == 0);
  CHECK(lab.get("t.tokens") == before);
  lab.put("diary.txt", "mine");
  for (const char* name : {"diary.txt", "model/tokenizer.json", "model/model.safetensors"}) {
    check_refused(lab, with(words, {"--out", lab.at(name)}), {name, "exists already"});
    check_refused(lab, with(words, {"--out", lab.at(name), "--force"}), {name, "is no token file"});
  }
  // A token file that is the data.
  const Words copy = {"tokenize",         "--model", lab.model(),        "--data",
                      lab.at("t.tokens"), "--out",   lab.at("t.tokens"), "--force"};
  check_refused(lab, copy, {"t.tokens", "which is read"});
  check_refused(lab, with(words, {"--ids", "--force"}), {"--force"});
  check_refused(lab, with(words, {"--out", lab.at("model"), "--force"}), {"got a folder"});
  check_refused(lab, with(words, {"--out", "/dev/null", "--force"}), {"/dev/null"});
}

TEST_CASE("evaluate --samples writes over samples alone, and never over what it reads") {
  const Lab lab;
  lab.put("qa.jsonl", "{\"prompt\": \"The fox\", \"completion\": \" saw\"}\n");
  lab.put("t.jinja", "{{ messages[0].content }}");
  const Words words = {"evaluate", "--model",  lab.model(),    "--data", lab.at("qa.jsonl"),
                       "--task",   "generate", "--max-tokens", "1"};
  for (const std::string& name : names_of(lab, "qa.jsonl")) {
    for (const Words& force : {Words{}, Words{"--force"}})
      check_refused(lab, with(with(words, {"--samples", name}), force), {"which is read"});
  }
  check_refused(lab,
                with(words, {"--chat-template", lab.at("t.jinja"), "--samples", lab.at("t.jinja"),
                             "--force"}),
                {"which is read"});
  for (const char* name : {"data.txt", "model/config.json"}) {
    check_refused(lab, with(words, {"--samples", lab.at(name), "--force"}),
                  {name, "is no file of samples"});
  }
  REQUIRE(tenon(with(words, {"--samples", lab.at("s.jsonl")})).code == 0);
  check_refused(lab, with(words, {"--samples", lab.at("s.jsonl")}), {"exists already"});
  CHECK(tenon(with(words, {"--samples", lab.at("s.jsonl"), "--force"})).code == 0);
}

TEST_CASE("a run never replaces what it reads") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--steps", "1"})).code == 0);
  const auto refused = [&](const Words& more, const Words& parts) {
    check_refused(lab, lab.finetune(with(more, {"--force"})), parts);
  };
  refused({"--adapter", lab.at("run/adapter")}, {"--out", "run/adapter", "which is read"});
  fs::create_symlink("run/adapter", lab.at("my-adapter"));
  refused({"--adapter", lab.at("my-adapter")}, {"--out", "my-adapter", "which is read"});
  refused({"--adapter", lab.at("run/checkpoints/step-1/adapter")}, {"run/checkpoints", "is read"});
  refused({"--config", lab.at("run/config.yaml")}, {"run/config.yaml", "which is read"});
  lab.put("run/adapter/more.txt", sentences(20));
  refused({"--data", lab.at("run/adapter/more.txt")}, {"more.txt", "which is read"});
  refused({"--val", lab.at("run/adapter/more.txt")}, {"more.txt", "which is read"});
  refused({"--out", lab.model()}, {"--out", "expected another folder than"});
  fs::create_hard_link(lab.data(), lab.at("run/metrics.jsonl.hard"));
  fs::rename(lab.at("run/metrics.jsonl.hard"), lab.at("run/metrics.jsonl"));
  refused({}, {"data.txt", "which is read"});
  // Its own config is what a run is gone on with.
  fs::remove(lab.at("run/metrics.jsonl"));
  CHECK(tenon(lab.finetune(
                  {"--config", lab.at("run/config.yaml"), "--steps", "1", "--resume", "auto"}))
            .code == 0);
}

TEST_CASE("a run with --force leaves nothing of the run before it, and what is not a run's") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--steps", "2", "--save-every", "1", "--val-split", "0.2"})).code ==
          0);
  REQUIRE(lab.has("run/adapter-best"));
  REQUIRE(lab.has("run/checkpoints/step-2"));
  lab.put("run/notes.md", "mine");
  REQUIRE(tenon(lab.finetune({"--steps", "1", "--force"})).code == 0);
  CHECK_FALSE(lab.has("run/adapter-best"));
  CHECK_FALSE(lab.has("run/checkpoints/step-2"));
  CHECK(lab.metrics("step") == Words{"1"});
  CHECK(lab.get("run/notes.md") == "mine");
}

TEST_CASE("init, merge and convert replace models, and never what they read") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--steps", "1"})).code == 0);
  const std::string adapter = lab.at("run/adapter");
  const Words merge = {"merge", "--model", lab.model(), "--adapter", adapter, "--force"};
  check_refused(lab, with(merge, {"--out", adapter}), {"run/adapter", "which is read"});
  check_refused(lab, with(merge, {"--out", lab.model()}), {"expected another folder than"});
  fs::create_directory_symlink("model", lab.at("link"));
  check_refused(lab, with(merge, {"--out", lab.at("link")}), {"expected another folder than"});
  check_refused(lab, {"convert", "--model", lab.model(), "--out", lab.at("link"), "--force"},
                {"expected another folder than"});
  check_refused(lab, {"convert", "--model", lab.at("link"), "--out", lab.model(), "--force"},
                {"expected another folder than"});
  // A config under another name would become config.json.
  fs::create_directory(lab.at("new"));
  lab.put("new/other.json", tiny_config().dump());
  fs::create_symlink("other.json", lab.at("new/config.json"));
  check_refused(lab,
                {"init", "--config", lab.at("new/other.json"), "--out", lab.at("new"), "--force"},
                {"other.json", "which is read"});
}

TEST_CASE("init --force is complete or as it was, and keeps what is no weights") {
  const Lab lab;
  lab.put("model/notes/deep/a.md", "mine");
  fs::create_symlink("notes", lab.at("model/link"));
  lab.put("model/model-00001-of-00002.safetensors", "old");
  const std::string before = lab.get("model/model.safetensors");
  const Words words = {"init",  "--config",  lab.at("model/config.json"),
                       "--out", lab.model(), "--seed",
                       "9",     "--force"};
  REQUIRE(tenon(words).code == 0);
  CHECK(lab.get("model/model.safetensors") != before);
  CHECK(lab.get("model/notes/deep/a.md") == "mine");
  CHECK(fs::read_symlink(lab.at("model/link")) == "notes");
  CHECK(lab.has("model/tokenizer.json"));
  CHECK_FALSE(lab.has("model/model-00001-of-00002.safetensors"));
  CHECK(tenon({"inspect", lab.model()}).code == 0);
}

TEST_CASE("a wrong TENON_CPU is told before a folder is made") {
  const Lab lab;
  const Listing before = list(lab.path());
  const Environment wrong = {{"TENON_CPU", "abacus"}};
  const Words init = {"init",    "--config", lab.at("model/config.json"), "--out", lab.at("a/b"),
                      "--dtype", "bf16"};
  for (const Words& words :
       {lab.finetune(), init,
        Words{"convert", "--model", lab.model(), "--out", lab.at("a/b"), "--dtype", "bf16"}}) {
    const Result result = tenon(words, wrong);
    INFO(words[0] << ": " << result.err);
    CHECK(result.code == 3);
    CHECK_THAT(result.err, Catch::Contains("TENON_CPU=abacus: expected one of"));
    CHECK(list(lab.path()) == before);
  }
}

TEST_CASE("what an interrupted command left is swept by the next") {
  const Lab lab;
  const std::string hex = ".0123456789abcdef";
  lab.put("new.tmp" + hex + "/model.safetensors", "half");
  lab.put(".t.tokens.tmp.4711" + hex, "half");
  REQUIRE(tenon({"init", "--config", lab.at("model/config.json"), "--out", lab.at("new")}).code ==
          0);
  REQUIRE(
      tenon({"tokenize", "--model", lab.model(), "--data", lab.data(), "--out", lab.at("t.tokens")})
          .code == 0);
  for (const auto& [name, hash] : list(lab.path())) CHECK(name.find(".tmp") == std::string::npos);
}

TEST_CASE("a run whose folder goes, or its lock, ends as a failure") {
  const Lab lab;
  const auto run_until = [&](auto&& change) {
    Process process(tenon_words(lab.finetune({"--steps", "100000", "--save-every", "3"})));
    REQUIRE(eventually([&] { return lab.has("run/checkpoints/step-3/manifest.json"); }));
    change();
    const Result result = process.wait(20);
    INFO(result.err);
    CHECK(result.code == 6);
    CHECK_THAT(result.err, Catch::Contains("tenon: error: " + lab.out()) &&
                               Catch::Contains("while the run went on; last good checkpoint"));
    fs::remove_all(lab.at("away"));
  };
  run_until([&] { fs::rename(lab.out(), lab.at("away")); });
  CHECK_FALSE(lab.has("run"));
  run_until([&] { fs::remove(lab.at("run/.lock")); });
  CHECK(lab.has("run/checkpoints"));
  fs::remove_all(lab.out());
  run_until([&] {
    fs::rename(lab.out(), lab.at("away"));
    fs::create_directory(lab.out());
  });
}

}  // namespace tenon::test
