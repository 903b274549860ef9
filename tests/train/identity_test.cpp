// SPDX-License-Identifier: Apache-2.0
// What makes two runs the same run, and what a resumed one may do otherwise.
#include "train/identity.h"

#include <catch2/catch.hpp>

#include "tests/core/temp_folder.h"
#include "train/choices.h"

namespace tenon::test {
namespace {

using Change = std::function<void(TrainOptions&)>;

TrainOptions some_options() {
  TrainOptions o;
  o.lr = 0.01;
  o.warmup = 0.1;
  o.schedule = "constant";
  return o;
}

Contents some_contents(const std::string& tokens = "a") {
  return {{{"model content", "m"}, {"tokens", tokens}}, {{"data content", "d" + tokens}}};
}

// What becomes of a run of 40 steps that stopped at `step` and is told otherwise.
std::string resumed(const Change& change, int64_t steps = 40, int64_t step = 20,
                    const Contents& contents = some_contents(),
                    TrainOptions then = some_options()) {
  TrainOptions now = then;
  change(now);
  return error_of([&] {
    resumed_identity(identity_text(now, contents, steps), identity_text(then, some_contents(), 40),
                     "step", step);
  });
}

const Change kNothing = [](TrainOptions&) {};

}  // namespace

TEST_CASE("a run goes on with other ways of working, and with nothing else otherwise",
          "[identity]") {
  const TrainOptions defaults = some_options();
  for (const OptionRow& row : option_rows()) {
    INFO(row.name);
    std::string error = resumed([&](TrainOptions& o) {
      // Another value, whatever the row takes.
      for (const char* word :
           {"3", "0.5", "0.25", "true", "sgd", "cosine", "bf16", "concat", "off", "config", "drop",
            "full", "in-backward", "stream", "nf4", "all", "last", "text", "auto"}) {
        try {
          row.set(o, {word});
        } catch (const Error&) {
          continue;
        }
        if (row.get(o) != row.get(defaults)) return;
      }
    });
    const bool decides = row.counts == Counts::kResult || std::string(row.name) == "warmup";
    CHECK((error == "no error") == !decides);
    if (decides && std::string(row.name) != "warmup")
      CHECK_THAT(error, Catch::Contains(std::string("--") + row.name + ": now "));
  }
}

TEST_CASE("other tokens are another run, and what they came of is told", "[identity]") {
  CHECK(resumed(kNothing, 40, 20, some_contents("b")) ==
        "3: --resume step: it belongs to another run: tokens: now b, then a; data content: now db, "
        "then da");
  Contents moved = some_contents();
  moved.sources[0].second = "elsewhere";  // the same tokens of other files
  CHECK(resumed(kNothing, 40, 20, moved) == "no error");
}

TEST_CASE("a run is made longer where its learning rates stay as they were", "[identity]") {
  CHECK(resumed(kNothing, 80) == "no error");
  CHECK(resumed(kNothing, 20) == "no error");
  CHECK_THAT(resumed(kNothing, 19), Catch::Contains("steps: now 19, then 40 (the checkpoint stands "
                                                    "at step 20)"));
  TrainOptions cosine = some_options();
  cosine.schedule = "cosine";
  CHECK(resumed(kNothing, 40, 20, some_contents(), cosine) == "no error");
  CHECK_THAT(resumed(kNothing, 80, 20, some_contents(), cosine),
             Catch::Contains("steps: now 80, then 40 (with --schedule cosine"));
  // A share of all steps stays what it was; another share, or number, is another run.
  const std::string then = identity_text(some_options(), some_contents(), 40);
  const std::string longer = identity_text(some_options(), some_contents(), 80);
  CHECK(stated_warmup(then) == 4);
  CHECK(stated_warmup(longer) == 8);
  const std::string goes_on = resumed_identity(longer, then, "step", 20);
  CHECK(stated_warmup(goes_on) == 4);
  CHECK(goes_on.find("steps=80\n") != std::string::npos);
  CHECK_THAT(resumed([](TrainOptions& o) { o.warmup = 0.5; }, 80),
             Catch::Contains("warm-up steps: now 40, then 4"));
  CHECK_THAT(resumed([](TrainOptions& o) { o.warmup = 5; }),
             Catch::Contains("warm-up steps: now 5, then 4"));
  CHECK(resumed([](TrainOptions& o) { o.warmup = 4; }) == "no error");
}

TEST_CASE("text of an option cannot pass for a fact", "[identity]") {
  TrainOptions o = some_options();
  o.system = "x\nwarm-up steps=7";
  const std::string then = identity_text(o, some_contents(), 40);
  CHECK(stated_warmup(then) == 4);
  CHECK(stated_warmup(resumed_identity(identity_text(o, some_contents(), 80), then, "step", 20)) ==
        4);
}

TEST_CASE("a name that no list has is refused", "[options]") {
  CHECK(chosen(kOptimizers, "--optimizer", "sgd") == &kSgd);
  CHECK_THAT(error_of([] { chosen(kOptimizers, "--optimizer", "adam"); }),
             Catch::StartsWith("2: --optimizer: "));
  CHECK_THAT(error_of([] { chosen(kSchedules, "--schedule", ""); }),
             Catch::StartsWith("2: --schedule: "));
  CHECK_THAT(error_of([] { chosen(kPackings, "--packing", "nope"); }),
             Catch::StartsWith("2: --packing: "));
}

}  // namespace tenon::test
