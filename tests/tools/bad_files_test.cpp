// SPDX-License-Identifier: Apache-2.0
// Models, data, adapters and folders that are wrong: one line that names the file and the place,
// nothing written, what is there untouched.
#include <catch2/catch.hpp>
#include <cstring>
#include <limits>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

// A lab whose folder "bad" is a copy of the model, to be damaged.
class BadModel : public Lab {
 public:
  BadModel() { copy("model", "bad"); }

  // Every command that reads a model refuses the bad one.
  void check(const Words& parts) const {
    check_refused(*this, finetune({"--model", at("bad")}), parts);
    check_refused(*this, {"evaluate", "--model", at("bad"), "--data", data(), "--threads", "1"},
                  parts);
    check_refused(*this, {"generate", "--model", at("bad"), "--prompt", "The", "--threads", "1"},
                  parts);
    check_refused(*this, {"inspect", at("bad")}, parts);
  }
  void edit(const std::function<void(Json&, std::string&)>& change) const {
    edit_tensors("bad/model.safetensors", change);
  }
};

constexpr const char* kWeights = "bad/model.safetensors";
constexpr const char* kNorm = "transformer.ln_f.weight";

TEST_CASE("weights that are missing or truncated") {
  const BadModel lab;
  const std::string whole = lab.get(kWeights);
  fs::remove(lab.at(kWeights));
  lab.check({lab.at("bad"), "model.safetensors"});
  for (const size_t bytes : {size_t{0}, size_t{5}, size_t{8}, size_t{100}, whole.size() - 1}) {
    lab.put(kWeights, whole.substr(0, bytes));
    INFO(bytes << " bytes");
    check_refused(lab, lab.finetune({"--model", lab.at("bad")}), {lab.at(kWeights)});
    check_refused(lab, {"inspect", lab.at(kWeights)}, {lab.at(kWeights)});
  }
  lab.check({lab.at(kWeights)});
  fs::remove(lab.at(kWeights));
  fs::create_directory(lab.at(kWeights));
  check_refused(lab, lab.finetune({"--model", lab.at("bad")}), {lab.at(kWeights)});
  check_refused(lab, lab.finetune({"--model", lab.at("nowhere")}), {lab.at("nowhere")});
  check_refused(lab, lab.finetune({"--model", lab.data()}), {lab.data()});
}

TEST_CASE("weights in a format that is not read") {
  const BadModel lab;
  fs::remove(lab.at(kWeights));
  lab.put("bad/pytorch_model.bin", "PK\x03\x04pickle");
  lab.check({lab.at("bad"), "pytorch_model.bin"});
  lab.put(kWeights, "PK\x03\x04pickle and more of it");
  lab.check({lab.at(kWeights)});
}

TEST_CASE("a header that is longer than the file") {
  const BadModel lab;
  for (const uint64_t length :
       {uint64_t{1} << 20, uint64_t{1} << 40, std::numeric_limits<uint64_t>::max()}) {
    std::string file = lab.get(kWeights);
    std::memcpy(file.data(), &length, sizeof length);
    lab.put(kWeights, file);
    lab.check({lab.at(kWeights)});
  }
}

TEST_CASE("tensor offsets that overlap, leave a gap or lie out of range") {
  const BadModel lab;
  const std::string whole = lab.get(kWeights);
  const auto damaged = [&](int64_t begin, int64_t end) {
    lab.put(kWeights, whole);
    lab.edit([&](Json& header, std::string&) {
      Json& offsets = header[kNorm]["data_offsets"];
      offsets = {offsets[0].get<int64_t>() + begin, offsets[1].get<int64_t>() + end};
    });
    lab.check({lab.at(kWeights), "tensor \"", "byte"});
  };
  damaged(-128, -128);
  damaged(0, 4);
  damaged(int64_t{1} << 40, int64_t{1} << 40);
  lab.put(kWeights, whole);
  lab.edit([](Json& header, std::string&) { header[kNorm]["data_offsets"] = {-4, 124}; });
  lab.check({lab.at(kWeights)});
  lab.put(kWeights, whole + "more");
  lab.check({lab.at(kWeights)});
}

TEST_CASE("a dtype that is unknown or no float's") {
  const BadModel lab;
  const std::string whole = lab.get(kWeights);
  for (const char* dtype : {"F12", "I32"}) {
    lab.put(kWeights, whole);
    lab.edit([&](Json& header, std::string&) { header[kNorm]["dtype"] = dtype; });
    lab.check({lab.at(kWeights), "ln_f", dtype});
  }
}

TEST_CASE("all tensors that are missing, unexpected or of another shape are in one message") {
  const BadModel lab;
  lab.edit([](Json& header, std::string&) {
    header["transformer.h.0.attn.c_wrong.bias"] = header["transformer.h.0.attn.c_attn.bias"];
    header.erase("transformer.h.0.attn.c_attn.bias");
    header["transformer.h.1.mlp.c_fc.weight"]["shape"] = {128, 32};
    header["transformer.wpe.weight"]["shape"] = {32, 64};
  });
  lab.check({lab.at(kWeights), "transformer.h.0.attn.c_attn.bias is missing",
             "transformer.h.0.attn.c_wrong.bias is unexpected",
             "transformer.h.1.mlp.c_fc.weight is [128, 32], expected [32, 128]",
             "transformer.wpe.weight is [32, 64], expected [64, 32]"});
}

TEST_CASE("config.json that is no JSON, lacks a field or holds a wrong one") {
  const BadModel lab;
  const std::string file = lab.at("bad/config.json");
  const auto check_text = [&](const std::string& text, const Words& parts) {
    INFO(text.substr(0, 80));
    lab.put("bad/config.json", text);
    Words all = {file};
    all.insert(all.end(), parts.begin(), parts.end());
    lab.check(all);
    check_refused(lab, {"init", "--config", file, "--out", lab.at("new")}, all);
  };
  for (const char* text : {"", "{", "[]", "null", "{\"model_type\": \"gpt2\",}", "\xff\xfe{}"}) {
    check_text(text, {});
  }
  for (const char* field : {"vocab_size", "n_embd", "n_layer", "n_head"}) {
    Json config = tiny_config();
    config.erase(field);
    check_text(config.dump(), {field});
    for (const Json& value : {Json(0), Json(-1), Json(1.5), Json("32"), Json(true), Json(nullptr),
                              Json(int64_t{1} << 62)}) {
      config[field] = value;
      check_text(config.dump(), {field});
    }
  }
  Json config = tiny_config();
  config["n_head"] = 5;
  check_text(config.dump(), {"n_head"});
  config = tiny_config();
  config["model_type"] = "mamba";
  check_text(config.dump(), {"model_type", "gpt2"});
  config["model_type"] = "gpt2";
  config["activation_function"] = "swoosh";
  check_text(config.dump(), {"activation_function", "swoosh", "gelu_new"});
  fs::remove(file);
  check_refused(lab, lab.finetune({"--model", lab.at("bad")}), {file});
}

TEST_CASE("vocabulary and model of different sizes") {
  const Lab lab;
  Json config = tiny_config();
  // A tokenizer may have entries that no text uses; one that is used must have its row.
  config["vocab_size"] = 300;
  lab.make_model("small", config);
  const Words parts = {"token", "embedding row", "300"};
  check_refused(lab, lab.finetune({"--model", lab.at("small")}), parts);
  check_refused(lab, {"evaluate", "--model", lab.at("small"), "--data", lab.data()}, parts);
  check_refused(lab, {"generate", "--model", lab.at("small"), "--prompt", sentences(9)}, parts);
  // More rows than entries is what padded checkpoints have.
  config["vocab_size"] = 544;
  lab.make_model("padded", config);
  CHECK(tenon(lab.finetune({"--model", lab.at("padded"), "--steps", "1"})).code == 0);
}

TEST_CASE("a tokenizer that is missing or damaged") {
  const BadModel lab;
  const std::string whole = lab.get("bad/tokenizer.json");
  lab.put("bad/tokenizer.json", whole.substr(0, whole.size() / 2));
  lab.check({lab.at("bad/tokenizer.json")});
  lab.put("bad/tokenizer.json", "{}");
  lab.check({lab.at("bad/tokenizer.json")});
  fs::remove(lab.at("bad/tokenizer.json"));
  check_refused(lab, lab.finetune({"--model", lab.at("bad")}), {lab.at("bad"), "tokenizer.json"});
}

TEST_CASE("data that is missing, empty or no text") {
  const Lab lab;
  const auto refused = [&](const std::string& name, const Words& parts) {
    Words all = {lab.at(name)};
    all.insert(all.end(), parts.begin(), parts.end());
    check_refused(lab, lab.finetune({"--data", lab.at(name)}), all);
    check_refused(lab, lab.finetune({"--val", lab.at(name)}), all);
    check_refused(lab, {"evaluate", "--model", lab.model(), "--data", lab.at(name)}, all);
  };
  refused("none.txt", {});
  lab.put("empty.txt", "");
  refused("empty.txt", {});
  lab.put("empty.jsonl", "\n  \n");
  refused("empty.jsonl", {});
  lab.put("data.docx", "PK");
  refused("data.docx", {".jsonl"});
  fs::create_directory(lab.at("folder.txt"));
  refused("folder.txt", {});
  // One token has nothing that could be predicted from it.
  lab.put("one.jsonl", "{\"text\": \"a\"}\n");
  CHECK(tenon({"evaluate", "--model", lab.model(), "--data", lab.at("one.jsonl")}).code == 0);
}

TEST_CASE("a JSONL line without the fields names its number") {
  const Lab lab;
  const auto refused = [&](const std::string& line, const Words& parts) {
    INFO(line);
    lab.put("d.jsonl", "{\"text\": \"one\"}\n\n" + line + "\n{\"text\": \"two\"}\n");
    Words all = {lab.at("d.jsonl"), "3"};
    all.insert(all.end(), parts.begin(), parts.end());
    check_refused(lab, lab.finetune({"--data", lab.at("d.jsonl")}), all);
  };
  refused("{\"txt\": \"x\"}", {"text"});
  refused("{\"prompt\": \"x\"}", {"completion"});
  refused("{\"completion\": \"x\"}", {"prompt"});
  refused("{\"text\": 7}", {"text", "not a string"});
  refused("{\"prompt\": \"a\", \"completion\": null}", {"completion"});
  refused("{\"text\": \"x\"", {});
  refused("[1, 2]", {});
  refused("{\"text\": \"\xff\"}", {});
}

TEST_CASE("targets that do not exist list those that do") {
  const Lab lab;
  check_refused(lab, lab.finetune({"--targets", "q_proj"}),
                {"--targets", "q_proj", "c_attn", "c_proj", "c_fc"});
  check_refused(lab, lab.finetune({"--targets", "c_attn,c_fx"}), {"--targets", "c_fx", "c_fc"});
  check_refused(lab, lab.finetune({"--targets", "c_attn,"}), {"--targets"});
}

TEST_CASE("sequences longer than the model's positions") {
  const Lab lab;
  check_refused(lab, lab.finetune({"--seq-len", "65"}), {"--seq-len", "65", "64"});
  check_refused(lab, {"evaluate", "--model", lab.model(), "--data", lab.data(), "--seq-len", "65"},
                {"--seq-len", "65", "64"});
  check_refused(lab, {"generate", "--model", lab.model(), "--prompt", sentences(40)},
                {"--prompt", "64 positions"});
}

TEST_CASE("the output folder") {
  const Lab lab;
  lab.put("run/notes.md", "mine");
  check_refused(lab, lab.finetune(), {"--out", lab.out(), "--force"});
  check_refused(lab, {"init", "--config", lab.at("model/config.json"), "--out", lab.out()},
                {"--out", lab.out(), "--force"});
  // Bad input on top of --force leaves what is there as well.
  check_refused(lab, lab.finetune({"--force", "--data", lab.at("none.txt")}), {"none.txt"});
  check_refused(lab, lab.finetune({"--force", "--targets", "nope"}), {"nope"});
  REQUIRE(tenon(lab.finetune({"--force", "--steps", "1"})).code == 0);
  CHECK(lab.get("run/notes.md") == "mine");

  // An empty folder stays empty, and no folder above a new one stays behind.
  fs::create_directory(lab.at("empty"));
  check_refused(lab, lab.finetune({"--out", lab.at("empty"), "--data", lab.at("none.txt")}),
                {"none.txt"});
  lab.put("few.jsonl", "{\"text\": \"a\"}\n{\"prompt\": 1}\n");
  check_refused(lab, lab.finetune({"--out", lab.at("a/b/c/"), "--data", lab.at("few.jsonl")}),
                {"few.jsonl"});
  check_refused(lab, lab.finetune({"--out", lab.data()}), {"--out", lab.data()});
  check_refused(lab, lab.finetune({"--out", lab.data() + "/run"}), {"--out", lab.data()});
  check_refused(lab, {"init", "--config", lab.at("model/config.json"), "--out", lab.data()},
                {"--out", lab.data()});

  // A run must not replace what it reads.
  lab.copy("model", "work/model");
  const std::string work = lab.at("work");
  check_refused(lab, lab.finetune({"--out", work, "--model", work + "/model", "--force"}),
                {"--out", work + "/model"});
  check_refused(lab, lab.finetune({"--out", work, "--model", work + "/model", "--resume", "auto"}),
                {"--out", work + "/model"});
}

TEST_CASE("adapters that do not fit") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--steps", "1"})).code == 0);
  Json config = tiny_config();
  config["n_embd"] = 48;
  lab.make_model("wide", config);
  const auto evaluate = [&](const std::string& model, const std::string& adapter) {
    return Words{"evaluate", "--model",  lab.at(model), "--adapter", lab.at(adapter),
                 "--data",   lab.data(), "--threads",   "1"};
  };
  CHECK(tenon(evaluate("model", "run/adapter")).code == 0);
  check_refused(
      lab, evaluate("wide", "run/adapter"),
      {"run/adapter/adapter_model.safetensors", "h.0.attn.c_attn.lora_A.weight is [2, 32]",
       "expected [2, 48]", "h.1.attn.c_attn.lora_B.weight"});
  check_refused(lab, evaluate("model", "nowhere"), {lab.at("nowhere/adapter_config.json")});
  check_refused(
      lab,
      {"generate", "--model", lab.at("wide"), "--adapter", lab.at("run/adapter"), "--prompt", "a"},
      {"adapter_model.safetensors"});

  const auto changed = [&](const char* field, const Json& value, const Words& parts) {
    fs::remove_all(lab.at("odd"));
    lab.copy("run/adapter", "odd");
    Json settings = Json::parse(lab.get("odd/adapter_config.json"));
    settings[field] = value;
    lab.put("odd/adapter_config.json", settings.dump());
    check_refused(lab, evaluate("model", "odd"), parts);
  };
  changed("r", 3, {"odd/adapter_model.safetensors", "expected [3, 32]"});
  changed("r", 0, {"odd/adapter_config.json", "\"r\""});
  changed("peft_type", "IA3", {"odd/adapter_config.json", "peft_type", "IA3"});
  changed("use_qalora", true, {"odd/adapter_config.json", "use_qalora"});
  changed("use_dora", true, {"lora_magnitude_vector is missing"});
  changed("target_modules", {"q_proj"}, {"odd/adapter_config.json", "target_modules", "c_attn"});
  changed("target_modules", {"c_attn", "c_fc"}, {"c_fc.lora_A.weight is missing"});
  changed("lora_alpha", "x", {"odd/adapter_config.json", "lora_alpha"});
  lab.put("odd/adapter_model.safetensors", "short");
  lab.put("odd/adapter_config.json", lab.get("run/adapter/adapter_config.json"));
  check_refused(lab, evaluate("model", "odd"), {"odd/adapter_model.safetensors"});
  check_refused(lab, {"inspect", lab.at("odd")}, {"odd/adapter_model.safetensors"});
}

TEST_CASE("prompts") {
  const Lab lab;
  const Words words = {"generate", "--model", lab.model(), "--prompts", lab.at("p.jsonl")};
  check_refused(lab, words, {"p.jsonl"});
  lab.put("p.jsonl", "\n{\"question\": \"a\"}\n");
  check_refused(lab, words, {"p.jsonl: line 2", "prompt"});
  lab.put("p.jsonl", "\n\n{\"prompt\": \"a\"\n");
  check_refused(lab, words, {"p.jsonl: line 3"});
}

TEST_CASE("checkpoints that cannot be gone on with") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--save-every", "2"})).code == 0);
  const std::string checkpoint = lab.at("run/checkpoints/step-4");
  const auto resume = [&](const std::string& from, Words more = {}) {
    more.insert(more.begin(), {"--resume", from});
    return lab.finetune(more);
  };
  check_refused(lab, resume(lab.at("nowhere")), {lab.at("nowhere/manifest.json")});
  check_refused(lab, resume(checkpoint, {"--seed", "8"}), {checkpoint, "--seed: now 8, then 42"},
                3);
  lab.put("other.txt", sentences(121));
  check_refused(lab, resume("auto", {"--data", lab.at("other.txt"), "--rank", "3"}),
                {"step-6", "data content: now", "--rank: now 3, then 2"}, 3);
  std::string state = lab.get("run/checkpoints/step-4/state.safetensors");
  state[state.size() - 1] = static_cast<char>(state[state.size() - 1] ^ 1);
  lab.put("run/checkpoints/step-4/state.safetensors", state);
  check_refused(lab, resume(checkpoint), {checkpoint + "/state.safetensors", "checksum"});
  check_refused(lab, {"inspect", checkpoint}, {checkpoint + "/state.safetensors", "checksum"});
}

TEST_CASE("what inspect and verify do not know") {
  const Lab lab;
  check_refused(lab, {"inspect", lab.at("nowhere")}, {lab.at("nowhere")});
  fs::create_directory(lab.at("folder"));
  check_refused(lab, {"inspect", lab.at("folder")}, {lab.at("folder"), "config.json"});
  check_refused(lab, {"inspect", lab.data()}, {lab.data()});
  lab.put("x.tokens", "TENONTOK");
  check_refused(lab, {"inspect", lab.at("x.tokens")}, {lab.at("x.tokens")});
  check_refused(lab, {"verify", lab.at("nowhere")}, {lab.at("nowhere")});
  check_refused(lab, {"verify", lab.at("folder")}, {lab.at("folder"), "inputs.safetensors"});
}

// All of the embedding of position 40 becomes `value`: all that makes a loss nan for texts of more
// than 40 tokens.
void spoil_late_positions(const Lab& lab, float value) {
  lab.edit_tensors("model/model.safetensors", [value](Json& header, std::string& data) {
    const int64_t begin = header["transformer.wpe.weight"]["data_offsets"][0];
    for (int64_t i = 0; i < 32; ++i)
      std::memcpy(data.data() + begin + (40 * 32 + i) * 4, &value, sizeof value);
  });
}

std::string last_line(const Result& result) {
  const Words all = lines(result.err);
  return all.empty() ? "" : all.back();
}

TEST_CASE("a loss that is not a number names the step and the last good checkpoint") {
  const Lab lab;
  spoil_late_positions(lab, 3e38f);  // a number, but its sums are none
  std::string documents;
  for (int i = 0; i < 12; ++i) documents += "{\"text\": \"The fox saw the river.\"}\n";
  lab.put("short.jsonl", documents);
  lab.put("late.jsonl", documents + "{\"text\": " + Json(sentences(4)).dump() + "}\n");
  const Words words =
      lab.finetune({"--data", lab.at("late.jsonl"), "--packing", "none", "--batch", "1",
                    "--seq-len", "64", "--steps", "13", "--save-every", "1", "--seed", "1"});

  SECTION("at the first step") {
    lab.put("bad.txt", sentences(30));
    const Result result =
        tenon(lab.finetune({"--data", lab.at("bad.txt"), "--seq-len", "64", "--batch", "2"}));
    CHECK(result.code == 4);
    CHECK(last_line(result) == "tenon: error: step 1: the loss is nan; last good checkpoint: none");
  }
  SECTION("after good checkpoints") {
    const Result result = tenon(words);
    CHECK(result.code == 4);
    const size_t good = lab.metrics("step").size();
    INFO(result.err);
    REQUIRE(good > 0);  // the long document is not the first one for this seed
    REQUIRE(good < 13);
    CHECK(last_line(result) == "tenon: error: step " + std::to_string(good + 1) +
                                   ": the loss is nan; last good checkpoint: " + lab.out() +
                                   "/checkpoints/step-" + std::to_string(good));
    CHECK(tenon({"inspect", lab.out() + "/checkpoints/step-" + std::to_string(good)}).code == 0);
    CHECK_FALSE(lab.has("run/adapter"));
  }
  SECTION("in validation") {
    lab.put("val.txt", sentences(10));
    const Result result =
        tenon(lab.finetune({"--val", lab.at("val.txt"), "--seq-len", "64", "--packing", "none",
                            "--data", lab.at("short.jsonl"), "--eval-every", "1", "--batch", "1"}));
    CHECK(result.code == 4);
    CHECK_THAT(last_line(result),
               Catch::Contains("tenon: error: step 1: the validation loss is nan"));
    CHECK_FALSE(lab.has("run/adapter-best"));
  }
  SECTION("evaluate and generate") {
    lab.put("long.txt", sentences(10));
    check_refused(lab, {"evaluate", "--model", lab.model(), "--data", lab.at("long.txt")},
                  {"the loss of the model is nan"}, 4);
  }
}

TEST_CASE("weights that are no numbers are named with their file") {
  const Lab lab;
  spoil_late_positions(lab, std::numeric_limits<float>::quiet_NaN());
  const std::string weight = lab.at("model/model.safetensors") +
                             ": tensor \"transformer.wpe.weight\": element [40, 0] is nan";
  check_refused(lab, lab.finetune(), {"tenon: error: " + weight}, 4);
  lab.put("long.txt", sentences(10));
  check_refused(lab, {"evaluate", "--model", lab.model(), "--data", lab.at("long.txt")},
                {"the loss of the model is nan; " + weight}, 4);
  for (const Words& words : {Words{"convert"}, Words{"convert", "--dtype", "bf16"}}) {
    Words all = words;
    all.insert(all.end(), {"--model", lab.model(), "--out", lab.at("new")});
    check_refused(
        lab, all,
        {"tensor \"transformer.wpe.weight\": element [40, 0] would be written as nan: it is "
         "nan in " +
         lab.at("model/model.safetensors")},
        4);
  }
}

TEST_CASE("weights that an update made infinite are not saved") {
  const Lab lab;
  lab.edit_tensors("model/model.safetensors", [](Json& header, std::string& data) {
    const int64_t begin = header["transformer.wpe.weight"]["data_offsets"][0];
    const float huge = 1e37F;  // in a position that no text reaches: only decay moves it
    std::memcpy(data.data() + begin + 60 * 32 * 4, &huge, sizeof huge);
  });
  const Result result = tenon(lab.finetune({"--method", "full", "--lr", "1000", "--weight-decay",
                                            "1000", "--steps", "1", "--warmup", "0"}));
  CHECK(result.code == 4);
  CHECK_THAT(last_line(result),
             Catch::StartsWith(
                 "tenon: error: step 1: the weights of transformer.wpe.weight are not finite; "
                 "last good checkpoint: none; transformer.wpe.weight: "));
  CHECK_FALSE(lab.has("run/model"));
}

}  // namespace
}  // namespace tenon::test
