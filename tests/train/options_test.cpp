// SPDX-License-Identifier: Apache-2.0
// The table of options: each row as text and back, the config file in YAML and JSON, and what is
// wrong with one, by file and line.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <map>

#include "tests/core/temp_folder.h"
#include "train/options.h"

namespace tenon::test {
namespace {

using Words = std::vector<std::string>;

// A value for each option that is not its default.
const std::map<std::string, Words>& other_values() {
  static const std::map<std::string, Words> values = {
      {"model", {"models/a b: #1, \"x\" 'y'\\\n\xc3\xa9"}},
      {"data",
       {"a, b.txt", "- c.jsonl", "null", "true", "1.50", "~", "[x]", "&a", "*b", "%c", "@d", "`e",
        " f "}},
      {"out", {"007"}},
      {"force", {"true"}},
      {"method", {"full"}},
      {"rank", {"17"}},
      {"alpha", {"2.5"}},
      {"lora-dropout", {"0.1"}},
      {"rslora", {"true"}},
      {"adapter", {"a/adapter"}},
      {"dora", {"true"}},
      {"lora-bias", {"true"}},
      {"bias", {"lora_only"}},
      {"modules-to-save", {"lm_head"}},
      {"rank-pattern", {"c_attn=4", "h.0.mlp.c_fc=2"}},
      {"alpha-pattern", {"c_attn=8"}},
      {"exclude-modules", {"mlp.c_proj"}},
      {"layers", {"0", "2"}},
      {"layers-pattern", {"h"}},
      {"targets", {"c_attn", "mlp.c_proj"}},
      {"precision", {"bf16-mixed"}},
      {"optimizer", {"sgd"}},
      {"update", {"in-backward"}},
      {"lr", {"3e-05"}},
      {"weight-decay", {"0.01"}},
      {"beta1", {"0.8"}},
      {"beta2", {"0.95"}},
      {"eps", {"1e-06"}},
      {"momentum", {"0.5"}},
      {"schedule", {"linear"}},
      {"warmup", {"100"}},
      {"clip", {"0"}},
      {"loss-scale", {"1024"}},
      {"loss-scale-growth", {"100"}},
      {"loss-scale-backoff", {"0.25"}},
      {"batch", {"64"}},
      {"micro-batch", {"4"}},
      {"seq-len", {"512"}},
      {"epochs", {"0.25"}},
      {"steps", {"2147483647"}},
      {"packing", {"concat"}},
      {"model-dropout", {"config"}},
      {"quantize", {"nf4"}},
      {"weights", {"stream"}},
      {"double-quant", {"true"}},
      {"shuffle", {"off"}},
      {"format", {"alpaca"}},
      {"columns", {"question", "answer"}},
      {"chat-template", {"chatml"}},
      {"system", {"Be brief: yes"}},
      {"date", {"2024-07-26"}},
      {"train-on", {"last"}},
      {"overlong", {"drop"}},
      {"skip-bad", {"true"}},
      {"special-tokens-in-text", {"plain"}},
      {"check-weights", {"true"}},
      {"val", {"v.txt"}},
      {"val-split", {"0.05"}},
      {"eval-every", {"50"}},
      {"early-stop", {"3"}},
      {"checkpoint-activations", {"every:3"}},
      {"memory", {"7.5GiB"}},
      {"offload", {"optimizer"}},
      {"save-every", {"10"}},
      {"keep", {"5"}},
      {"resume", {"auto"}},
      {"device", {"cpu"}},
      {"parallel", {"dp=4"}},
      {"threads", {"2"}},
      {"timeout", {"7.5"}},
      {"seed", {"7"}},
      {"log-every", {"10"}},
      {"show-sample", {"true"}},
      {"quiet", {"true"}},
  };
  return values;
}

const OptionRow& row_of(const std::string& name) {
  for (const OptionRow& row : option_rows()) {
    if (name == row.name) return row;
  }
  throw std::out_of_range(name);
}

std::map<std::string, Words> all_of(const TrainOptions& options) {
  std::map<std::string, Words> all;
  for (const OptionRow& row : option_rows()) all[row.name] = row.get(options);
  return all;
}

TrainOptions read(const TempFolder& folder, const std::string& text) {
  TrainOptions options;
  read_config_file(put_file(folder / "run.yaml", text), options);
  return options;
}

// The message about run.yaml, behind the file's name.
std::string config_error(const std::string& text) {
  const TempFolder folder;
  const std::string error = error_of([&] { read(folder, text); });
  const std::string begin = "2: " + shown(folder / "run.yaml") + ":";
  return error.starts_with(begin) ? error.substr(begin.size()) : "not about the file: " + error;
}

}  // namespace

TEST_CASE("every option is the same after it was written and set", "[options]") {
  CHECK(other_values().size() == option_rows().size());
  const TrainOptions defaults;
  for (const OptionRow& row : option_rows()) {
    INFO(row.name);
    TrainOptions options;
    row.set(options, row.get(defaults));
    CHECK(all_of(options) == all_of(defaults));
    const Words& other = other_values().at(row.name);
    row.set(options, other);
    CHECK(row.get(options) == other);
    CHECK(row.get(options) != row.get(defaults));
    row.set(options, row.get(defaults));
    CHECK(all_of(options) == all_of(defaults));  // it set nothing else
    CHECK(std::string(row.help) != "");
  }
}

TEST_CASE("a run's config.yaml repeats the run", "[options]") {
  const TempFolder folder;
  CHECK(all_of(read(folder, config_text({}))) == all_of({}));
  TrainOptions options;
  for (const auto& [name, words] : other_values()) row_of(name).set(options, words);
  CHECK(all_of(read(folder, config_text(options))) == all_of(options));
  CHECK(config_text(read(folder, config_text(options))) == config_text(options));
  CHECK(config_text({}).find("lora-dropout: 0\n") != std::string::npos);  // one a line
}

TEST_CASE("what is not given can be told from every number that is", "[options]") {
  const TempFolder folder;
  CHECK_FALSE(TrainOptions().lr);
  CHECK(row_of("lr").get({}) == Words{"auto"});
  CHECK(read(folder, "lr: 0\n").lr == 0.0);
  CHECK(config_text(read(folder, "lr: 0\n")).find("\nlr: 0\n") != std::string::npos);
  CHECK_FALSE(read(folder, "lr: auto\n").lr);
  TrainOptions options;
  for (const char* name : {"weight-decay", "warmup", "clip", "seed", "alpha", "lora-dropout",
                           "beta1", "beta2", "eps", "momentum", "save-every", "early-stop"}) {
    INFO(name);
    row_of(name).set(options, {"0"});
    CHECK(row_of(name).get(options) == Words{"0"});
    CHECK(row_of(name).get(read(folder, config_text(options))) == Words{"0"});
  }
}

TEST_CASE("what an option counts for is stated with it", "[options]") {
  const std::map<Counts, Words> others = {
      {Counts::kTokens,
       {"format", "columns", "system", "date", "train-on", "skip-bad", "special-tokens-in-text"}},
      {Counts::kContent, {"model", "data", "adapter", "chat-template", "val"}},
      {Counts::kLength, {"warmup", "epochs", "steps"}},
      {Counts::kJob,
       {"out", "force", "micro-batch", "eval-every", "early-stop", "checkpoint-activations",
        "memory", "offload", "save-every", "keep", "resume", "device", "parallel", "timeout",
        "weights"}},
      {Counts::kRank, {"threads", "log-every", "show-sample", "quiet", "check-weights"}}};
  size_t results = 0, named = 0;
  for (const auto& [counts, names] : others) named += names.size();
  for (const OptionRow& row : option_rows()) {
    INFO(row.name);
    Counts counts = Counts::kResult;
    for (const auto& [each, names] : others) {
      if (std::find(names.begin(), names.end(), row.name) != names.end()) counts = each;
    }
    CHECK(row.counts == counts);
    results += row.counts == Counts::kResult ? 1 : 0;
  }
  CHECK(results + named == option_rows().size());
}

TEST_CASE("the inputs of a run are what it reads", "[options]") {
  const TempFolder folder;
  const TrainOptions options =
      read(folder,
           "model: m\ndata: [a.txt, b.txt]\nval: v\nadapter: run/adapter\nout: run\nresume: c\n");
  const auto inputs = inputs_of(options);
  CHECK((inputs == std::vector<std::filesystem::path>{"m", "a.txt", "b.txt", "run/adapter", "v"}));
}

TEST_CASE("a config file's ~/ is HOME", "[options]") {
  const TempFolder folder;
  const char* const before = std::getenv("HOME");
  const std::string home = before == nullptr ? "" : before;
  setenv("HOME", "/home/someone", 1);
  const TrainOptions options =
      read(folder, "model: ~/m\ndata: [~/a.txt, \"~\", b/~/c.txt]\nsystem: ~/no path\n");
  CHECK(options.model == "/home/someone/m");
  CHECK(options.data == Words{"/home/someone/a.txt", "~", "b/~/c.txt"});
  CHECK(options.system == "~/no path");
  CHECK(config_error("out: ~other/run\n") ==
        "1: only \"~/\" stands for a home folder here, got \"~other/run\"");
  // A folder of this name is written so that it is not taken for that.
  TrainOptions odd;
  odd.model = "~/m";
  CHECK(read(folder, config_text(odd)).model == "./~/m");
  unsetenv("HOME");
  CHECK_THAT(config_error("out: ~/run\n"), Catch::Contains("HOME is not set"));
  if (before != nullptr) setenv("HOME", home.c_str(), 1);
}

TEST_CASE("a config file may be YAML or JSON, with - or _ in names", "[options]") {
  const TempFolder folder;
  for (const std::string text :
       {"lora_dropout: 0.5\ntargets: [c_fc, c_proj]\nforce: true\nmodel:\n# a comment\nlr: 1e-3\n",
        "lora-dropout: 0.5\ntargets:\n  - c_fc\n  - c_proj\nforce: true\nlr: \"1e-3\"\n",
        "{\"lora_dropout\": 0.5, \"targets\": [\"c_fc\", \"c_proj\"],\n \"force\": true, \"lr\": "
        "0.001, \"model\": null}",
        "{\n\t\"lora_dropout\": 0.5,\n\t\"targets\": \"c_fc,c_proj\",\n\t\"force\": "
        "true,\n\t\"lr\": 1E-3\n}\n"}) {
    INFO(text);
    TrainOptions want;
    want.lora_dropout = 0.5;
    want.targets = {"c_fc", "c_proj"};
    want.force = true;
    want.lr = 1e-3;
    CHECK(all_of(read(folder, text)) == all_of(want));
  }
  // What the file does not name stays as it is.
  TrainOptions options;
  options.rank = 5;
  read_config_file(put_file(folder / "run.yaml", "alpha: 3\n"), options);
  CHECK(options.rank == 5);
  CHECK(options.alpha == 3);
}

TEST_CASE("what is wrong with a config file is named with its line", "[options]") {
  const std::pair<const char*, const char*> cases[] = {
      {"rank: 4\nlora_dropuot: 0.5\n",
       "2: unknown name \"lora-dropuot\" (did you mean lora-dropout?)"},
      {"quite-another-thing: 1\n", "1: unknown name \"quite-another-thing\""},
      {"rank: 4\n\nrank: 5\n", "3: \"rank\" is given twice"},
      {"lora_dropout: 0.5\nlora-dropout: 0.5\n", "2: \"lora-dropout\" is given twice"},
      {"{\"rank\": 4,\n \"rank\": 5}", "2: \"rank\" is given twice"},
      {"rank: four\n", "1: --rank: expected an integer in 1..2147483647, got \"four\""},
      {"rank: 0\n", "1: --rank: expected an integer in 1..2147483647, got \"0\""},
      {"rank: 2147483648\n", "1: --rank: expected an integer"},
      {"rank: 4.0\n", "1: --rank: expected an integer"},
      {"rank: [4, 5]\n", "1: --rank: expected one value, got 2"},
      {"rank: {a: 4}\n", "1: expected a value or a list"},
      {"data: [[a]]\n", "1: expected a list of plain values"},
      {"data: [\"\"]\n", "1: --data: an entry is empty"},
      {"force: yes\n", "1: --force: expected true or false, got \"yes\""},
      {"lr: .nan\n", "1: --lr: expected a number in 0..1000, got \".nan\""},
      {"lr: nan\n", "1: --lr: expected a number"},
      {"lr: 1e400\n", "1: --lr: expected a number"},
      {"lr: 0x10\n", "1: --lr: expected a number"},
      {"lr: \"1,5\"\n", "1: --lr: expected a number"},
      {"lr: -1\n", "1: --lr: expected a number"},
      {"method: lara\n",
       "1: --method: expected one of lora, qlora, full, got \"lara\" (did you mean lora?)"},
      {"rank: 4\n  alpha: [\n", "2:"},
      {"\"rank\x1b\": 4\n", "1: unknown name \"rank\\x1b\""},
  };
  for (const auto& [text, message] : cases) {
    INFO(text);
    CHECK_THAT(config_error(text), Catch::StartsWith(message));
  }
  for (const char* text : {"- a\n- b\n", "rank\n", "", "42"}) {
    INFO(text);
    CHECK_THAT(config_error(text), Catch::EndsWith(" expected lines of \"name: value\""));
  }
  CHECK_THAT(config_error(std::string(100000, '[')), Catch::Contains("invalid YAML"));
  const TempFolder folder;
  TrainOptions options;
  CHECK_THAT(error_of([&] { read_config_file(folder / "none.yaml", options); }),
             Catch::StartsWith("2: " + shown(folder / "none.yaml")));
}

TEST_CASE("options that do not fit each other are refused", "[options]") {
  TrainOptions good;
  good.model = "m";
  good.data = {"d.txt"};
  good.out = "o";
  const auto error = [&](const std::function<void(TrainOptions&)>& change) {
    TrainOptions options = good;
    change(options);
    return error_of([&] { check_options(options); });
  };
  using O = TrainOptions;
  CHECK(error([](O&) {}) == "no error");
  CHECK_THAT(error([](O& o) { o.model.clear(); }), Catch::StartsWith("2: --model: "));
  CHECK_THAT(error([](O& o) { o.data.clear(); }), Catch::StartsWith("2: --data: "));
  CHECK_THAT(error([](O& o) { o.out.clear(); }), Catch::StartsWith("2: --out: "));
  CHECK(error([](O& o) { o.micro_batch = 9; }) == "2: --micro-batch: 9 is more than --batch 8");
  CHECK_THAT(error([](O& o) { o.epochs = 0; }), Catch::StartsWith("2: --epochs: "));
  CHECK(error([](O& o) {
          o.epochs = 0;
          o.steps = 1;
        }) == "no error");
  CHECK_THAT(error([](O& o) {
               o.val = {"v"};
               o.val_split = 0.1;
             }),
             Catch::StartsWith("2: --val-split: "));
  CHECK_THAT(error([](O& o) { o.early_stop = 1; }), Catch::StartsWith("2: --early-stop: "));
  CHECK_THAT(error([](O& o) {
               o.resume = "auto";
               o.force = true;
             }),
             Catch::StartsWith("2: --resume: "));
}

}  // namespace tenon::test
