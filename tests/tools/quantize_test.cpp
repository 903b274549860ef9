// SPDX-License-Identifier: Apache-2.0
// A quantized base as a user meets it: written once or made when it is read, trained on, evaluated,
// and refused where it cannot serve.
#include <catch2/catch.hpp>
#include <cstring>
#include <limits>

#include "core/weight_files.h"
#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

void quantize(const Lab& lab, const Words& more = {}) {
  Words words = {"quantize", "--model", lab.model(), "--out", lab.at("small"), "--threads", "1"};
  words.insert(words.end(), more.begin(), more.end());
  const Result result = tenon(words);
  INFO(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.out.empty());
}

// The losses of 4 steps of an adapter.
Words losses_of(const Lab& lab, const std::string& model, const Words& more = {}) {
  Words words = lab.finetune({"--model", model, "--force", "--steps", "4"});
  words.insert(words.end(), more.begin(), more.end());
  const Result result = tenon(words);
  INFO(result.err);
  REQUIRE(result.code == 0);
  return lab.metrics("loss");
}

}  // namespace

TEST_CASE("a base in 4 bits is the same from its own folder and made when it is read") {
  const Lab lab;
  const double dense = loss_of(lab, {"--model", lab.model()});
  for (const Words& more : std::vector<Words>{{}, {"--double-quant"}}) {
    quantize(lab, [&] {
      Words words = more;
      words.push_back("--force");
      return words;
    }());
    Words made = {"--model", lab.model(), "--quantize", "nf4"};
    made.insert(made.end(), more.begin(), more.end());
    const double stored = loss_of(lab, {"--model", lab.at("small")});
    CHECK(stored == loss_of(lab, made));
    CHECK(stored != dense);
    CHECK(stored == Approx(dense).epsilon(0.05));
    const Json config = Json::parse(lab.get("small/config.json"));
    const Json& stated = config.at("quantization_config");
    CHECK(stated.at("bnb_4bit_use_double_quant") == !more.empty());
    CHECK(stated.at("bnb_4bit_quant_type") == "nf4");
    CHECK(stated.at("quant_method") == "bitsandbytes");
    const WeightFiles files = WeightFiles::open(lab.at("small"));
    const std::string weight = "transformer.h.0.attn.c_attn.weight";
    REQUIRE(files.find(weight) != nullptr);
    CHECK(files.find(weight)->dtype_name == "U8");
    CHECK(files.find(weight)->shape == std::vector<int64_t>{32 * 96 / 2, 1});
    CHECK((files.find(weight + ".nested_absmax") != nullptr) == !more.empty());
    CHECK(files.find("transformer.wte.weight")->dtype_name == "F32");
    CHECK(lab.has("small/README.md"));
  }
}

TEST_CASE("a base in int8 is the same from its own folder and made when it is read") {
  const Lab lab;
  const double dense = loss_of(lab, {"--model", lab.model()});
  quantize(lab, {"--to", "int8"});
  const double stored = loss_of(lab, {"--model", lab.at("small")});
  CHECK(stored == loss_of(lab, {"--model", lab.model(), "--quantize", "int8"}));
  CHECK(stored != dense);
  CHECK(stored == Approx(dense).epsilon(0.01));
  const Json stated = Json::parse(lab.get("small/config.json")).at("quantization_config");
  CHECK(stated.at("load_in_8bit") == true);
  CHECK(stated.at("load_in_4bit") == false);
  const WeightFiles files = WeightFiles::open(lab.at("small"));
  const std::string linear = "transformer.h.0.attn.c_attn.";
  REQUIRE(files.find(linear + "weight") != nullptr);
  CHECK(files.find(linear + "weight")->dtype_name == "I8");
  CHECK(files.find(linear + "weight")->shape == std::vector<int64_t>{96, 32});
  CHECK(files.find(linear + "SCB")->shape == std::vector<int64_t>{96});
  CHECK(files.find(linear + "weight_format")->shape.empty());
  const Words converted = {"convert", "--model", lab.at("small"), "--dtype",
                           "bf16",    "--out",   lab.at("same")};
  CHECK(tenon(converted).code == 0);  // floats alone are cast, and not the rows' scales
  CHECK(loss_of(lab, {"--model", lab.at("same")}) == Approx(stored).epsilon(0.01));

  const Words rate = {"--lr", "0.01"}, losses = losses_of(lab, lab.at("small"), rate);
  CHECK(losses == losses_of(lab, lab.model(), {"--lr", "0.01", "--quantize", "int8"}));
  CHECK(losses == losses_of(lab, lab.at("small"), {"--lr", "0.01", "--weights", "stream"}));
  const Words dense_losses = losses_of(lab, lab.model(), rate);
  CHECK(std::stod(losses.front()) == Approx(std::stod(dense_losses.front())).epsilon(0.01));
  const Words generated = {
      "generate", "--model", lab.at("small"), "--adapter", lab.at("run/adapter"),
      "--prompt", "The",     "--max-tokens",  "3"};
  CHECK(tenon(generated).code == 0);
}

TEST_CASE("qlora trains an adapter on 4 bits, and goes on to the same end") {
  const Lab lab;
  quantize(lab);
  const Words stored = losses_of(lab, lab.at("small"), {"--lr", "0.01"});
  const Words made = losses_of(lab, lab.model(), {"--lr", "0.01", "--method", "qlora"});
  REQUIRE(stored.size() == 4);
  CHECK(stored == made);
  const Words still = losses_of(lab, lab.at("small"), {"--lr", "1e-12"});
  CHECK(still.front() == stored.front());
  CHECK(std::stod(stored.back()) < std::stod(still.back()));  // of the same batch
  const Words dense = losses_of(lab, lab.model(), {"--lr", "0.01"});
  CHECK(dense != stored);
  for (size_t i = 0; i < 4; ++i)
    CHECK(std::stod(dense[i]) == Approx(std::stod(stored[i])).epsilon(0.05));
  const Words generated = {
      "generate", "--model", lab.at("small"), "--adapter", lab.at("run/adapter"),
      "--prompt", "The",     "--max-tokens",  "3"};
  CHECK(tenon(generated).code == 0);
}

TEST_CASE("init writes in 4 bits what quantize makes of the same values") {
  const Lab lab;
  const std::string config = lab.at("model/config.json");
  for (const Words& words :
       std::vector<Words>{{"init", "--config", config, "--dtype", "nf4", "--out", lab.at("nf4")},
                          {"init", "--config", config, "--out", lab.at("wide")},
                          {"quantize", "--model", lab.at("wide"), "--out", lab.at("made")}}) {
    const Result result = tenon(words);
    INFO(result.err);
    REQUIRE(result.code == 0);
  }
  const WeightFiles nf4 = WeightFiles::open(lab.at("nf4")),
                    made = WeightFiles::open(lab.at("made"));
  int same = 0;
  for (const TensorEntry& entry : made.files().at(0).entries()) {
    const TensorEntry* drawn = nf4.find(entry.name);
    INFO(entry.name);
    REQUIRE(drawn != nullptr);
    // The type that is computed in, which the state names, is another; so are dense tensors.
    if (entry.dtype_name != "U8" && entry.name.find(".absmax") == std::string::npos) continue;
    if (entry.name.find("quant_state") != std::string::npos) continue;
    REQUIRE(drawn->bytes == entry.bytes);
    CHECK(std::memcmp(drawn->data, entry.data, static_cast<size_t>(entry.bytes)) == 0);
    ++same;
  }
  CHECK(same == 2 * 2 * 4);  // codes and scales of four linears in each of two blocks
  const double loss = loss_of(lab, {"--model", lab.at("made")});
  CHECK(loss_of(lab, {"--model", lab.at("nf4")}) == Approx(loss).epsilon(0.01));
}

TEST_CASE("a base that is streamed gives the same run") {
  const Lab lab;
  quantize(lab);
  const auto train = [&](const std::string& model, const Words& more) {
    Words words = lab.finetune({"--model", model, "--force", "--steps", "3", "--val-split", "0.2"});
    words.insert(words.end(), more.begin(), more.end());
    const Result result = tenon(words);
    INFO(result.err);
    REQUIRE(result.code == 0);
    return lab.get("run/adapter/adapter_model.safetensors");
  };
  for (const std::string& model : {lab.model(), lab.at("small")}) {
    const std::string mapped = train(model, {});
    CHECK(train(model, {"--weights", "stream"}) == mapped);
    CHECK(loss_of(lab, {"--model", model, "--weights", "stream"}) ==
          loss_of(lab, {"--model", model}));
  }
}

TEST_CASE("what quantized bases cannot do is refused") {
  const Lab lab;
  quantize(lab);
  const Words train = lab.finetune({"--model", lab.at("small")});
  const auto with = [](Words words, const Words& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  check_refused(lab, with(train, {"--method", "full"}), {"--method full", "quantized"});
  check_refused(lab, with(train, {"--modules-to-save", "c_fc"}), {"modules_to_save", "in 4 bits"});
  check_refused(lab, with(lab.finetune(), {"--double-quant"}), {"--double-quant", "qlora"});
  check_refused(lab, with(lab.finetune(), {"--method", "full", "--quantize", "nf4"}),
                {"--quantize"});
  check_refused(lab, {"quantize", "--model", lab.at("small"), "--out", lab.at("smaller")},
                {"quantized already"});
  check_refused(lab, with(lab.finetune(), {"--method", "qlora", "--quantize", "int8"}),
                {"--method qlora", "nf4"});
  check_refused(lab, with(lab.finetune(), {"--quantize", "int8", "--double-quant"}),
                {"--double-quant", "nf4"});
  check_refused(lab,
                {"quantize", "--model", lab.model(), "--out", lab.at("smaller"), "--to", "int8",
                 "--double-quant"},
                {"--double-quant", "nf4"});
  check_refused(lab, {"evaluate", "--model", lab.model(), "--data", lab.data(), "--quantize", "q4"},
                {"--quantize", "q4"});
}

TEST_CASE("an infinity is not quantized, and nothing is written") {
  const Lab lab;
  lab.edit_tensors("model/model.safetensors", [](Json& header, std::string& data) {
    const Json& place = header.at("transformer.h.1.mlp.c_fc.weight").at("data_offsets");
    const float wrong = std::numeric_limits<float>::infinity();
    std::memcpy(data.data() + place[0].get<size_t>() + 40, &wrong, sizeof(wrong));
  });
  check_refused(lab, {"quantize", "--model", lab.model(), "--out", lab.at("small")},
                {"transformer.h.1.mlp.c_fc.weight", "inf"}, 4);
  CHECK_FALSE(lab.has("small"));
}

}  // namespace tenon::test
