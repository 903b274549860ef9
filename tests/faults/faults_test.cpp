// SPDX-License-Identifier: Apache-2.0
// Every call of the system that a command makes below its folders fails once: it ends in one line
// with a path and exit code 6, or goes on where the failure is of no consequence; what was there
// stays whole; and the next run succeeds and leaves nothing else. TENON_FAULTS=all walks every call
// with every error, which takes minutes; the test takes some.
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <regex>

#include "tests/faults/shim_run.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

struct Trial {
  std::string name;
  std::function<void(const Lab&)> prepare;
  std::function<Words(const Lab&)> words, next;  // the next run, which nothing disturbs
  Words results;  // folders that are complete, old or new, at any moment
};

std::function<void(const Lab&)> done(const std::function<Words(const Lab&)>& words) {
  return [words](const Lab& lab) { REQUIRE(tenon(words(lab)).code == 0); };
}

Words finetune(const Lab& lab, const Words& more = {}) {
  Words words = {"--steps", "2", "--save-every", "1", "--val-split", "0.3", "--eval-every", "1"};
  words.insert(words.end(), more.begin(), more.end());
  return lab.finetune(words);
}

std::vector<Trial> trials() {
  const auto nothing = [](const Lab&) {};
  const auto init = [](const Lab& lab) {
    return Words{"init", "--config", lab.at("model/config.json"), "--out", lab.at("new"), "--seed",
                 "7",    "--force"};
  };
  const auto tokenize = [](const Lab& lab) {
    return Words{"tokenize", "--model",          lab.model(), "--data", lab.data(),
                 "--out",    lab.at("t.tokens"), "--threads", "1",      "--force"};
  };
  const auto convert = [](const Lab& lab) {
    return Words{"convert",     "--model", lab.model(), "--out",
                 lab.at("new"), "--force", "--dtype",   "bf16"};
  };
  const auto merge = [](const Lab& lab) {
    return Words{"merge", "--model",     lab.model(), "--adapter", lab.at("run/adapter"),
                 "--out", lab.at("new"), "--force",   "--threads", "1"};
  };
  const auto evaluate = [](const Lab& lab) {
    return Words{"evaluate", "--model", lab.model(), "--data", lab.data(), "--threads", "1"};
  };
  const auto samples = [](const Lab& lab) {
    return Words{"evaluate",        "--model",  lab.model(),    "--data", lab.at("qa.jsonl"),
                 "--task",          "generate", "--max-tokens", "2",      "--samples",
                 lab.at("s.jsonl"), "--force",  "--threads",    "1"};
  };
  const auto train = [](const Lab& lab) { return finetune(lab); };
  const auto longer = [](const Lab& lab) { return finetune(lab, {"--steps", "3"}); };
  const auto resume = [](const Lab& lab) {
    return finetune(lab, {"--steps", "3", "--resume", "auto"});
  };
  // A run that ended before its config.yaml left nothing to go on from, and none is needed.
  const auto next = [](const Lab& lab) {
    return lab.has("run/config.yaml") ? finetune(lab, {"--resume", "auto"}) : finetune(lab);
  };
  return {{"init", nothing, init, init, {"new"}},
          {"init again",
           done([init](const Lab& lab) {
             Words other = init(lab);
             other[6] = "8";
             return other;
           }),
           init,
           init,
           {"new"}},
          {"tokenize", nothing, tokenize, tokenize, {}},
          {"convert again", done(convert), convert, convert, {"new"}},
          {"merge", done(train), merge, merge, {"new", "run/adapter"}},
          {"evaluate", nothing, evaluate, evaluate, {}},
          {"evaluate --samples",
           [](const Lab& lab) {
             lab.put("qa.jsonl", "{\"prompt\": \"The fox\", \"completion\": \" saw\"}\n");
           },
           samples,
           samples,
           {}},
          {"finetune", nothing, train, next, {"run/adapter"}},
          {"finetune --resume",
           done([longer](const Lab& lab) {
             Words words = longer(lab);
             words.insert(words.end(), {"--quiet"});
             return words;
           }),
           resume,
           resume,
           {"run/adapter"}}};
}

// The files of a folder that are the same in every run: times and the places of files are not.
Listing lasting(const fs::path& folder) {
  Listing all = list(folder);
  std::erase_if(all, [](const auto& entry) {
    for (const char* end :
         {"metrics.csv", ".jsonl", "ranks.csv", "summary.json", "trainer.json", "manifest.json",
          ".lock", "config.yaml", ".tokens", "adapter_config.json", "README.md"}) {
      if (entry.first.ends_with(end)) return true;
    }
    return false;
  });
  return all;
}

bool is_temporary(const std::string& name) {
  return name.find(".tmp.") != std::string::npos || name.find(".old.") != std::string::npos ||
         name.find("tenon-") != std::string::npos;
}

void check_message(const Lab& lab, const Result& result, int error) {
  const int expected = error == ENOMEM ? 7 : 6;
  CHECK((result.code == 0 || result.code == expected));
  if (result.code == 0) return;
  Words told;
  for (const std::string& line : lines(result.err)) {
    if (line.starts_with("tenon: error: ")) told.push_back(line);
  }
  REQUIRE(told.size() == 1);
  CHECK_THAT(told[0], Catch::Contains(lab.path().string()));
  CHECK_THAT(told[0], !Catch::Contains("filesystem error") && !Catch::Contains("internal error"));
}

}  // namespace

TEST_CASE("whatever call of the system fails, it is told and nothing is lost") {
  const bool all = std::getenv("TENON_FAULTS") != nullptr;
  const std::vector<int> errors = all ? std::vector<int>{ENOSPC, EIO, EROFS, EMFILE, ENOMEM, EDQUOT}
                                      : std::vector<int>{ENOSPC, EIO, ENOMEM};
  int64_t points = 0, ended = 0;
  for (const Trial& trial : trials()) {
    const Lab start;
    trial.prepare(start);
    const Lab calm;
    fs::remove_all(calm.path());
    fs::copy(start.path(), calm.path(), fs::copy_options::recursive);
    const auto results = [&](const Lab& lab) {
      std::vector<Listing> each;
      for (const std::string& name : trial.results)
        each.push_back(lab.has(name) ? lasting(lab.at(name)) : Listing{});
      return each;
    };
    const std::vector<Listing> before = results(start);
    const int64_t calls = static_cast<int64_t>(recorded(calm, trial.words(calm)).size());
    const std::vector<Listing> after = results(calm);
    const Listing whole = lasting(calm.path());
    REQUIRE(calls > 20);
    if (all) std::clog << trial.name << ": " << calls << " calls" << std::endl;
    const int64_t stride = all ? 1 : std::max<int64_t>(1, calls / 6);
    for (size_t e = 0; e < errors.size(); ++e) {
      for (int64_t at = 1 + static_cast<int64_t>(e); at <= calls; at += stride) {
        const Lab lab;
        fs::remove_all(lab.path());
        fs::copy(start.path(), lab.path(), fs::copy_options::recursive);
        const Result result =
            with_fault(lab, trial.words(lab), {.at = std::to_string(at), .error = errors[e]});
        INFO(trial.name << ": call " << at << " of " << calls << ", errno " << errors[e] << "\n"
                        << result.err);
        ++points;
        ended += result.code != 0;
        check_message(lab, result, errors[e]);
        const std::vector<Listing> now = results(lab);
        for (size_t i = 0; i < now.size(); ++i) CHECK((now[i] == before[i] || now[i] == after[i]));
        const Result again = tenon(trial.next(lab), {{"TMPDIR", lab.path().string()}});
        INFO("next run: " << again.err);
        CHECK(again.code == 0);
        for (const auto& [name, hash] : list(lab.path())) CHECK_FALSE(is_temporary(name));
        CHECK(lasting(lab.path()) == whole);
      }
    }
  }
  if (all) WARN(points << " failures, " << ended << " of which ended the command");
}

TEST_CASE("a file that cannot be mapped for want of memory is told with its bytes") {
  const Lab lab;
  const Result result = with_fault(lab, {"evaluate", "--model", lab.model(), "--data", lab.data()},
                                   {"mmap", "1+", ENOMEM});
  CHECK(result.code == 7);
  CHECK_THAT(result.err, Catch::Matches("tenon: error: .*could not be mapped, [0-9]+ bytes: "
                                        "Cannot allocate memory\n"));
}

TEST_CASE("a full disk is told with what is free") {
  const Lab lab;
  const Words init = {"init", "--config", lab.at("model/config.json"), "--out", lab.at("new/deep")};
  for (const char* calls : {"mkdir", "write", "rename", "open"}) {
    const Result result = with_fault(lab, init, {calls, "2+", ENOSPC});
    INFO(calls << ": " << result.err);
    CHECK(result.code == 6);
    CHECK_THAT(result.err, Catch::StartsWith("tenon: error: " + lab.path().string()) &&
                               Catch::Matches(".*[0-9]+ (bytes )?free\n"));
    CHECK_FALSE(lab.has("new"));
  }
}

TEST_CASE("an output folder that cannot be made at the start is an error of the system") {
  const Lab lab;
  const auto fails = [&](const Words& words, int error, int code) {
    const Result result = with_fault(lab, words, {"mkdir", "1+", error});
    INFO(result.err);
    CHECK(result.code == code);
    CHECK_THAT(result.err, Catch::Contains("could not be created: "));
  };
  const Words init = {"init", "--config", lab.at("model/config.json"), "--out", lab.at("new")};
  for (const int error : {EROFS, EACCES, ENOSPC}) {
    fails(init, error, 6);
    fails(lab.finetune(), error, 6);
  }
  CHECK_FALSE(lab.has("run"));
}

TEST_CASE("an old checkpoint that cannot be removed is told once, and the run goes on") {
  const Lab lab;
  const Words words = lab.finetune({"--steps", "4", "--save-every", "1", "--keep", "1"});
  const Result result = with_fault(lab, words, {"rmdir", "1+", EIO});
  INFO(result.err);
  CHECK(result.code == 0);
  const Words told = lines(result.err);
  const auto about = [](const std::string& line) {
    return line.find("an old checkpoint stays: ") != line.npos;
  };
  CHECK(std::count_if(told.begin(), told.end(), about) == 1);
  CHECK_THAT(result.err, Catch::Contains("could not be removed: Input/output error"));
  CHECK(lab.has("run/checkpoints/step-4/manifest.json"));
  CHECK(lab.has("run/adapter"));
}

TEST_CASE("metrics that cannot be written are told, quiet or not, and the run goes on") {
  const Lab lab;
  const std::string calls = "write";
  const Words quiet = lab.finetune({"--steps", "3", "--quiet"});
  const Words record = recorded(lab, quiet, {.calls = calls});
  const size_t at = place_of(record, "write run/metrics.jsonl");
  fs::remove_all(lab.out());
  const Result result = with_fault(lab, quiet, {calls, std::to_string(at + 1), ENOSPC});
  INFO(result.err);
  CHECK(result.code == 0);
  const Words told = lines(result.err);
  REQUIRE(told.size() == 2);
  CHECK_THAT(told[0], Catch::StartsWith("tenon: warning: metrics are lost") &&
                          Catch::Contains("run/metrics.jsonl") && Catch::Contains("no space left"));
  CHECK_THAT(told[1], Catch::StartsWith("tenon: warning: metrics are incomplete: "));
  CHECK(lab.metrics("step") == Words{"1", "2", "3"});  // the other file has them all
  CHECK_THAT(Json::parse(lab.get("run/summary.json")).at("metrics_lost").get<std::string>(),
             Catch::Contains("metrics.jsonl"));
  CHECK(lab.has("run/adapter/adapter_model.safetensors"));
}

}  // namespace tenon::test
