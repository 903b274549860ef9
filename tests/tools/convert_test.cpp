// SPDX-License-Identifier: Apache-2.0
// tenon convert: what becomes of a checkpoint, and what is not overwritten.
#include <catch2/catch.hpp>
#include <cstring>

#include "core/safetensors.h"
#include "core/weight_files.h"
#include "tests/core/safetensors_bytes.h"
#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCase = TENON_SOURCE_DIR "/tests/reference/cases/torch";

Result good(const Words& words) {
  const Result result = tenon(words);
  INFO(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.out.empty());
  return result;
}

// A lab with a checkpoint of PyTorch's in "bin", of a family that nobody knows.
class BinLab : public Lab {
 public:
  explicit BinLab(const char* kind = "views") {
    fs::copy(fs::path(kCase) / kind, at("bin"));
    put("bin/config.json", kConfig);
    put("bin/merges.txt", "#version\na b\n");
  }
  Words convert(const Words& more = {}) const {
    Words words = {"convert", "--model", at("bin"), "--out", at("new"), "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static constexpr const char* kConfig =
      "{\n  \"model_type\": \"odd\",\n  \"z\": 1e-05,\n  \"dtype\": \"float64\",\n  \"a\": "
      "[1]\n}\n";
};

TEST_CASE("convert: a .bin becomes the safetensors that Hugging Face writes") {
  for (const char* kind : {"views", "shards"}) {
    const BinLab lab(kind);
    good(lab.convert());
    const std::string expected = std::string(kCase) + "/views.safetensors";
    const SafetensorsFile got = SafetensorsFile::open(lab.at("new/model.safetensors"));
    const SafetensorsFile want = SafetensorsFile::open(expected);
    // The head repeats the embedding in the same storage, so it was tied.
    CHECK(got.entries().size() == want.entries().size() - 1);
    CHECK(got.find("lm_head.weight") == nullptr);
    for (const TensorEntry& entry : got.entries()) {
      CAPTURE(entry.name);
      REQUIRE(want.find(entry.name) != nullptr);
      CHECK(text_of(entry) == text_of(*want.find(entry.name)));
      CHECK(entry.shape == want.find(entry.name)->shape);
      CHECK(entry.dtype_name == want.find(entry.name)->dtype_name);
    }
    CHECK(got.metadata().at("format") == "pt");
    CHECK(lab.get("new/config.json") == BinLab::kConfig);
    CHECK(lab.get("new/merges.txt") == lab.get("bin/merges.txt"));
    CHECK(lab.has("new/README.md"));
    CHECK(list(lab.at("new")).size() == 4);
  }
}

TEST_CASE("inspect: what a .bin holds") {
  const Result result = tenon({"inspect", std::string(kCase) + "/views/pytorch_model.bin"});
  CHECK(result.code == 0);
  CHECK(result.out.find("pytorch_model.bin: PyTorch, 21 tensors, 175 elements") !=
        std::string::npos);
  CHECK(lines(result.out).at(3) == fmt::format("  {:<60} {:<6} {}", "transposed", "F32", "[6, 4]"));
}

TEST_CASE("convert: the head is left out only where it will be tied again") {
  const BinLab lab;
  const auto has_head = [&](const char* member) {
    lab.put("bin/config.json", std::string("{\"model_type\":\"odd\"") + member + "}");
    good(lab.convert({"--force"}));
    return WeightFiles::open(lab.at("new")).find("lm_head.weight") != nullptr;
  };
  CHECK_FALSE(has_head(""));
  CHECK_FALSE(has_head(",\"tie_word_embeddings\":true"));
  CHECK(has_head(",\"tie_word_embeddings\":false"));
  // In safetensors nothing is shared: equal bytes count where config.json states the tie.
  fs::rename(lab.at("new/model.safetensors"), lab.at("bin/model.safetensors"));
  CHECK(has_head(""));
  CHECK_FALSE(has_head(",\"tie_word_embeddings\":true"));
}

TEST_CASE("convert: dtype and shards") {
  const BinLab lab;
  good(lab.convert({"--dtype", "bf16", "--max-shard-size", "64"}));
  const WeightFiles got = WeightFiles::open(lab.at("new"));
  CHECK(got.source() == lab.at("new/model.safetensors.index.json"));
  CHECK(got.files().size() > 3);
  CHECK(got.notes().empty());
  for (const TensorFile& file : got.files()) {
    int64_t bytes = 0;
    for (const TensorEntry& entry : file.entries()) bytes += entry.bytes;
    CHECK((bytes <= 64 || file.entries().size() == 1));
  }
  CHECK(got.find("embed.weight")->dtype_name == "BF16");
  CHECK(got.find("permuted")->dtype_name == "BF16");
  CHECK(got.find("mask")->dtype_name == "BOOL");
  CHECK(got.find("int16")->dtype_name == "I16");
  const uint16_t expected[] = {0x3FC0, 0xC000, 0x3FC0, 0xC000, 0x3FC0, 0xC000};  // 1.5, -2
  REQUIRE(got.find("broadcast")->bytes == sizeof expected);
  CHECK(std::memcmp(got.find("broadcast")->data, expected, sizeof expected) == 0);
  CHECK(lab.get("new/config.json") ==
        "{\n  \"model_type\": \"odd\",\n  \"z\": 1e-05,\n  \"dtype\": \"bfloat16\",\n  \"a\": [\n "
        "   1\n  ]\n}\n");

  // From shards back to one file, of a model that Tenon can load.
  Words words = {"convert", "--model", lab.model(), "--out", lab.at("fp16"), "--dtype", "fp16"};
  good(words);
  CHECK(Json::parse(lab.get("fp16/config.json")).value("torch_dtype", "") == "float16");
  CHECK(lab.get("fp16/tokenizer.json") == lab.get("model/tokenizer.json"));
  CHECK(good({"convert", "--model", lab.at("fp16"), "--out", lab.at("cut"), "--max-shard-size",
              "20KB"})
            .err.find(" files, from ") != std::string::npos);
  CHECK(tenon({"inspect", lab.at("cut")}).out.find("parameters in fp16") != std::string::npos);
  good({"convert", "--model", lab.at("cut"), "--out", lab.at("whole")});
  CHECK(lab.get("whole/model.safetensors") == lab.get("fp16/model.safetensors"));
}

TEST_CASE("convert: what is there is not overwritten unless asked, and never more than a model") {
  const BinLab lab;
  good(lab.convert());
  check_refused(lab, lab.convert(), {"--out", "exists and is not empty", "--force"});
  good(lab.convert({"--force", "--dtype", "fp16", "--max-shard-size", "100"}));
  CHECK_FALSE(lab.has("new/model.safetensors"));
  good(lab.convert({"--force"}));
  CHECK_FALSE(lab.has("new/model.safetensors.index.json"));
  lab.put("new/adapter_model.safetensors", "mine");
  check_refused(lab, lab.convert({"--force"}),
                {"holds adapter_model.safetensors, which is no part of a model"});
  fs::remove(lab.at("new/adapter_model.safetensors"));
  lab.put("new/notes.md", "mine");
  check_refused(lab, lab.convert({"--force"}), {"holds notes.md, which is no part of a model"});
  Words onto = lab.convert({"--force"});
  onto[4] = lab.at("bin");
  check_refused(lab, onto, {"expected another folder than", "which is read"});
  onto[4] = lab.at("");
  check_refused(lab, onto, {"no part of a model"});
  onto[4] = lab.at("bin/config.json");
  check_refused(lab, onto, {"expected a folder, got a file"});
  onto[4] = lab.at("bin/config.json/x");
  check_refused(lab, onto, {"--out"});
}

TEST_CASE("convert: what is wrong is named and nothing is written") {
  const BinLab lab;
  check_refused(lab, lab.convert({"--dtype", "fp8"}), {"--dtype"});
  for (const char* size : {"0", "-1", "5XB", "GB", "0.5", "99999999999GB", "5 GB x"}) {
    check_refused(lab, lab.convert({std::string("--max-shard-size=") + size}),
                  {"--max-shard-size: expected a size such as 5GB"});
  }
  check_refused(lab, {"convert", "--model", lab.at("bin")}, {"--out"});
  check_refused(lab, {"convert", "--model", lab.at("nowhere"), "--out", lab.at("new")},
                {lab.at("nowhere")});
  const std::string whole = lab.get("bin/pytorch_model.bin");
  lab.put("bin/pytorch_model.bin", whole.substr(0, 3000));
  check_refused(lab, lab.convert(), {"pytorch_model.bin: expected a zip archive's directory"});
  fs::remove(lab.at("bin/pytorch_model.bin"));
  check_refused(lab, lab.convert(), {lab.at("bin"), "pytorch_model.bin"});
  lab.put("bin/model.safetensors",
          file_of(header_of({tensor("a", "F64", "[1]", "[0,8]")}), "12345678"));
  check_refused(lab, lab.convert({"--dtype", "fp32"}),
                {"tensor \"a\": expected F32, F16 or BF16 for --dtype fp32, got F64"});
  good(lab.convert());  // as it is
  CHECK(lab.get("new/model.safetensors").ends_with("12345678"));
  fs::remove(lab.at("bin/config.json"));
  check_refused(lab, lab.convert({"--force"}), {"config.json"});
}

TEST_CASE("convert: a mask may hold -inf, and no weight may") {
  const BinLab lab;
  fs::remove(lab.at("bin/pytorch_model.bin"));
  const auto store = [&](const char* name) {
    lab.put("bin/model.safetensors", file_of(header_of({tensor(name, "F32", "[1]", "[0,4]")}),
                                             std::string("\0\0\x80\xFF", 4)));
  };
  store("h.0.attn.masked_bias");
  good(lab.convert());
  fs::remove_all(lab.at("new"));
  store("h.0.attn.c_attn.bias");
  check_refused(lab, lab.convert(), {"tensor \"h.0.attn.c_attn.bias\"", "-inf"}, 4);
}

}  // namespace
TEST_CASE("a cast that would lose a value writes nothing") {
  const Lab lab;
  lab.edit_tensors("model/model.safetensors", [](Json& header, std::string& data) {
    const int64_t begin = header["transformer.h.1.mlp.c_fc.weight"]["data_offsets"][0];
    const float large = -1e5f;
    std::memcpy(data.data() + begin + 130 * 4, &large, sizeof large);
  });
  const Words words = {"convert", "--model", lab.model(), "--out", lab.at("new"), "--dtype"};
  Words fp16 = words, bf16 = words;
  fp16.push_back("fp16");
  bf16.push_back("bf16");
  check_refused(lab, fp16,
                {"tensor \"transformer.h.1.mlp.c_fc.weight\": element [1, 2] would be written as "
                 "-inf: it is -100000 in " +
                     lab.at("model/model.safetensors"),
                 "more than fp16 holds (65504)"},
                4);
  CHECK(tenon(bf16).code == 0);
}

}  // namespace tenon::test
