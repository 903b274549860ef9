// SPDX-License-Identifier: Apache-2.0
// Runs that are killed, stopped or find their checkpoints damaged: whatever happened, --resume auto
// ends with the bytes of a run that nothing disturbed.
#include <signal.h>

#include <catch2/catch.hpp>
#include <random>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

// A run of 24 steps with seven checkpoints, dropout and validation, so that there is state of every
// kind to be restored.
class Crash : public Lab {
 public:
  explicit Crash(const Words& more = {}) : more_(more) { REQUIRE(tenon(words("calm")).code == 0); }

  Words words(const std::string& out, const Words& more = {}) const {
    Words all = {"--out",       at(out), "--steps",      "24", "--save-every",   "4",
                 "--val-split", "0.2",   "--eval-every", "3",  "--lora-dropout", "0.1"};
    all.insert(all.end(), more_.begin(), more_.end());
    all.insert(all.end(), more.begin(), more.end());
    return finetune(all);
  }
  Words resumed(const std::string& out) const { return words(out, {"--resume", "auto"}); }

  // The run in `out` is done, and is the calm one but for its times.
  void check_same(const std::string& out) const {
    for (const char* name : {"adapter", "adapter-best", "model", "model-best"}) {
      REQUIRE(has("calm/" + std::string(name)) == has(out + "/" + name));
      if (has("calm/" + std::string(name))) {
        CHECK(list(at("calm/" + std::string(name))) == list(at(out + "/" + name)));
      }
    }
    for (const char* column : {"step", "tokens", "loss", "val_loss", "lr", "grad_norm"}) {
      CHECK(metrics(column, "calm") == metrics(column, out));
    }
    CHECK(lines(get(out + "/metrics.jsonl")).size() == 24);
    for (const auto& [name, content] : list(at(out))) {
      INFO(name);
      CHECK(name.find(".tmp.") == std::string::npos);
    }
    const Json calm = Json::parse(get("calm/summary.json"));
    const Json summary = Json::parse(get(out + "/summary.json"));
    for (const char* field :
         {"steps", "tokens", "first_loss", "last_loss", "best_val_loss", "end"}) {
      INFO(field);
      CHECK(summary.at(field) == calm.at(field));
    }
  }

  // Resumes until the run is done; the times in milliseconds after which it is killed come first.
  void survive(const std::string& out, const std::vector<double>& kills) const {
    for (const double delay : kills) {
      Process process(tenon_words(resumed(out)));
      sleep_ms(delay);
      process.signal(SIGKILL);
      const int code = process.wait(10).code;
      CHECK((code == 128 + SIGKILL || code == 0));
    }
    const Result last = tenon(resumed(out));
    INFO(last.err);
    REQUIRE(last.code == 0);
    check_same(out);
  }

 private:
  Words more_;
};

TEST_CASE("kill -9 at any moment") {
  const Crash crash;
  std::mt19937 random(7);
  std::uniform_real_distribution<double> delay(2, 90);
  for (int round = 0; round < 12; ++round) {
    std::vector<double> kills(1 + round % 4);
    for (double& each : kills) each = delay(random);
    INFO("round " << round);
    crash.survive("run" + std::to_string(round), kills);
  }
}

TEST_CASE("kill -9 at any moment of a full fine-tuning") {
  const Crash crash({"--method", "full"});
  for (const double delay : {8.0, 20.0, 45.0}) {
    crash.survive("run" + std::to_string(static_cast<int>(delay)), {delay, 2 * delay});
  }
}

TEST_CASE("kill -9 while a checkpoint is being written") {
  const Crash crash;
  const fs::path checkpoints = crash.at("run/checkpoints");
  int hits = 0;
  for (int round = 0; round < 5; ++round) {
    Process process(tenon_words(crash.resumed("run")));
    const bool seen = eventually([&] {
      if (process.ended()) return true;
      std::error_code none;
      for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints, none)) {
        if (entry.path().filename().string().find(".tmp.") != std::string::npos) return true;
      }
      return false;
    });
    REQUIRE(seen);
    process.signal(SIGKILL);
    hits += process.wait(10).code == 128 + SIGKILL ? 1 : 0;
  }
  CHECK(hits > 0);
  crash.survive("run", {});
}

TEST_CASE("kill -9 as soon as a checkpoint is there") {
  const Crash crash;
  for (int step = 4; step <= 20; step += 4) {
    Process process(tenon_words(crash.resumed("run")));
    const std::string checkpoint = "run/checkpoints/step-" + std::to_string(step);
    REQUIRE(eventually([&] { return process.ended() || crash.has(checkpoint); }));
    process.signal(SIGKILL);
    process.wait(10);
  }
  crash.survive("run", {});
}

TEST_CASE("leftovers of interrupted writers are removed") {
  const Crash crash;
  crash.put("run/checkpoints/step-4.tmp.0123456789abcdef/state.safetensors", "half");
  crash.put("run/adapter.tmp.0123456789abcdef/adapter_config.json", "half");
  crash.put("run/cache/.train.tokens.tmp.12.0123456789abcdef", "half");
  crash.survive("run", {});
}

TEST_CASE("SIGTERM: the step is finished, saved, and exit 75 says to run again") {
  const Crash crash;
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) {
    const std::string out = "run" + std::to_string(number);
    Process process(tenon_words(crash.words(out)));
    REQUIRE(eventually([&] {
      return crash.has(out + "/metrics.csv") && lines(crash.get(out + "/metrics.csv")).size() > 2;
    }));
    process.signal(number);
    const Result stopped = process.wait(20);
    INFO(stopped.err);
    if (stopped.code != 0) {  // the machine may have been faster
      CHECK(stopped.code == 75);
      CHECK_THAT(stopped.err, Catch::Contains("--resume auto"));
      const Json summary = Json::parse(crash.get(out + "/summary.json"));
      CHECK(summary.at("end") == "stopped by a signal");
      CHECK(crash.has(out + "/checkpoints/step-" + summary.at("steps").dump()));
    }
    crash.survive(out, {});
  }
}

// A step of this takes a good part of a second.
Words long_steps(const Lab& lab, const std::string& micro_batch = "1") {
  lab.put("long.txt", sentences(4000));
  return lab.finetune({"--data", lab.at("long.txt"), "--batch", "1500", "--micro-batch",
                       micro_batch, "--seq-len", "64", "--save-every", "1", "--steps", "60",
                       "--keep", "60"});
}

TEST_CASE("a step of many micro-batches is left where a signal finds it") {
  const Lab lab;
  Process process(tenon_words(long_steps(lab)));
  REQUIRE(eventually([&] { return lab.has("run/checkpoints/step-1/manifest.json"); }));
  process.signal(SIGTERM);
  const size_t done = lines(lab.get("run/metrics.csv")).size() - 1;
  const Result stopped = process.wait(20);
  INFO(stopped.err);
  CHECK(stopped.code == 75);
  // One step more may have come to its end between the signal and the look.
  const Json steps = Json::parse(lab.get("run/summary.json")).at("steps");
  CHECK(steps.get<size_t>() <= done + 1);
  CHECK(lab.has("run/checkpoints/step-" + steps.dump()));
}

TEST_CASE("a second signal leaves at once") {
  const Lab lab;
  Process process(tenon_words(long_steps(lab, "100")));
  REQUIRE(eventually([&] { return lab.has("run/checkpoints/step-1/manifest.json"); }));
  process.signal(SIGTERM);
  process.signal(SIGINT);  // the two may come in either order
  const Result left = process.wait(10);
  CHECK((left.code == 128 + SIGTERM || left.code == 128 + SIGINT));
  CHECK(tenon({"inspect", lab.at("run/checkpoints/step-1")}).code == 0);
}

TEST_CASE("two runs on one folder: the second is refused") {
  const Lab lab;
  const Words words = long_steps(lab);
  Process first(tenon_words(words));
  REQUIRE(eventually([&] { return lab.has("run/checkpoints/step-1/manifest.json"); }));
  for (const char* how : {"--force", "--resume=auto"}) {
    Words again = words;
    again.push_back(how);
    const Result second = tenon(again);
    CHECK(second.code == 2);
    CHECK(lines(second.err).size() == 1);
    CHECK_THAT(second.err,
               Catch::Contains("another tenon run (pid " + std::to_string(first.pid())));
  }
  CHECK_FALSE(first.ended());
  CHECK(lab.has("run/checkpoints/step-1/manifest.json"));
}

TEST_CASE("a damaged checkpoint is passed over, and it is said") {
  const Crash crash;
  REQUIRE(tenon(crash.words("run")).code == 0);
  // As if killed after the last checkpoint.
  fs::remove_all(crash.at("run/adapter"));
  fs::remove(crash.at("run/summary.json"));
  const std::string newest = "run/checkpoints/step-24/";
  const auto go_on = [&](const std::string& said) {
    const Result result = tenon(crash.resumed("run"));
    INFO(result.err);
    CHECK(result.code == 0);
    CHECK_THAT(result.err, Catch::Contains("warning: checkpoint passed over") &&
                               Catch::Contains(said) && Catch::Contains("step-20 (step 20)"));
    crash.check_same("run");
    CHECK(tenon({"inspect", crash.at(newest)}).code == 0);  // made anew
  };
  const std::string state = crash.get(newest + "state.safetensors");
  crash.put(newest + "state.safetensors", state.substr(0, state.size() / 2));
  go_on("step-24/state.safetensors");
  const std::string manifest = crash.get(newest + "manifest.json");
  crash.put(newest + "manifest.json", manifest.substr(0, manifest.size() / 2));
  go_on("step-24/manifest.json");
  fs::remove(crash.at(newest + "manifest.json"));
  go_on("step-24/manifest.json");
  fs::remove(crash.at(newest + "trainer.json"));
  go_on("step-24/trainer.json");
}

TEST_CASE("with --keep 1 a good checkpoint outlives a damaged newer one") {
  const Crash crash({"--keep", "1"});
  crash.put("run/checkpoints/step-99/manifest.json", "{}");
  Process process(tenon_words(crash.resumed("run")));
  const auto saved = [&](const char* step) {
    return crash.has(std::string("run/checkpoints/step-") + step);
  };
  REQUIRE(eventually([&] { return saved("8") || saved("12") || saved("16"); }));
  process.signal(SIGKILL);
  process.wait(10);
  const std::string found = tenon({"inspect", crash.out()}).out;
  CHECK_THAT(found, Catch::Contains("newest good checkpoint step-"));
  crash.survive("run", {});
}

TEST_CASE("resuming what is finished changes nothing") {
  const Crash crash({"--early-stop", "1", "--lr", "0.9"});
  const Listing before = list(crash.at("calm"));
  REQUIRE(tenon(crash.resumed("calm")).code == 0);
  Listing after = list(crash.at("calm"));
  // The config says how the run was started, and the lock who did it.
  for (const char* name : {"config.yaml", ".lock"}) after[name] = before.at(name);
  CHECK(after == before);
  CHECK(Json::parse(crash.get("calm/summary.json")).at("end") == "stopped early");
}

// The command as bash has it.
std::string quoted(const Words& words) {
  std::string command;
  for (const std::string& word : tenon_words(words)) command += " '" + word + "'";
  return command;
}

Result bash(const std::string& command) { return run({"/bin/bash", "-c", command}); }

TEST_CASE("what is meant for people never goes into files, whatever was closed at the start") {
  const Crash crash;
  for (const char* closed : {"2>&-", "1>&-", "0<&-", "0<&- 1>&- 2>&-"}) {
    INFO(closed);
    CHECK(bash("exec" + quoted(crash.words("run")) + " " + closed).code == 0);
    crash.check_same("run");
    const std::string csv = crash.get("run/metrics.csv");
    CHECK(lines(csv).size() == 25);
    fs::remove_all(crash.out());
  }
  // Nobody gets what was asked for.
  const Result lost = bash("exec" + quoted({"inspect", crash.model()}) + " >&-");
  CHECK(lost.code == 6);
  CHECK_THAT(lost.err, Catch::StartsWith("tenon: error: stdout: "));
  CHECK(bash("exec" + quoted({"inspect", crash.at("none")}) + " 2>&-").code == 2);
}

TEST_CASE("a run goes on when the reader of its log has gone") {
  const Crash crash;
  const Result piped = bash(quoted(crash.words("run")) + " 2>&1 | head -1; exit ${PIPESTATUS[0]}");
  CHECK(piped.code == 0);
  CHECK(lines(piped.out).size() == 1);
  crash.check_same("run");
}

TEST_CASE("a command whose results nobody reads any more ends as pipes end it") {
  const Lab lab;
  lab.put("long.txt", sentences(20000));
  const Words words = {"tokenize", "--model", lab.model(), "--data", lab.at("long.txt"), "--ids"};
  const Result piped = bash(quoted(words) + " | head -c 5; exit ${PIPESTATUS[0]}");
  CHECK(piped.code == 128 + SIGPIPE);
  CHECK(piped.err.empty());
}

TEST_CASE("a full disk: exit 6, and the last good checkpoint is named") {
  const Lab lab;
  // Files of more than 24 KiB cannot be written: the first checkpoint of a full model cannot.
  const Result result =
      run({"/bin/bash", "-c", "ulimit -f 24; exec " + quoted(lab.finetune({"--method", "full"}))});
  CHECK(result.code == 6);
  const Words said = lines(result.err);
  REQUIRE_FALSE(said.empty());
  CHECK_THAT(said.back(), Catch::StartsWith("tenon: error: ") &&
                              Catch::Contains("state.safetensors") &&
                              Catch::EndsWith("last good checkpoint: none"));
  for (const auto& [name, content] : list(lab.path())) {
    CHECK(name.find(".tmp.") == std::string::npos);
  }
}

}  // namespace
}  // namespace tenon::test
