// SPDX-License-Identifier: Apache-2.0
// tenon inspect: what it says of tokenizers and token files, and what of them is not valid.
#include <catch2/catch.hpp>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "tests/core/temp_folder.h"
#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

void check_described(const Words& words, const Words& parts) {
  const Result result = tenon(words);
  INFO(result.err);
  CHECK(result.code == 0);
  for (const std::string& part : parts) CHECK_THAT(result.out, Catch::Contains(part));
}

TEST_CASE(
    "inspect reads a tokenizer.model: in a model's folder, in one of its own, and by itself") {
  const Lab lab;
  const std::string reference = TENON_SOURCE_DIR "/tests/reference/tokenizer/";
  fs::remove(lab.at("model/tokenizer.json"));
  fs::create_directory(lab.at("alone"));
  for (const char* folder : {"model", "alone"}) {
    const std::string file = lab.at(std::string(folder) + "/tokenizer.model");
    fs::copy_file(reference + "spm_bpe/tokenizer.model", file);
    check_described({"inspect", lab.at(folder)}, {"tokenizer " + file + ": ", " entries"});
    check_described({"inspect", file}, {file + ": sentencepiece model, BPE, ", " pieces"});

    const std::string whole = get_file(file), name = std::string(folder) + "/tokenizer.model";
    std::string two_unknown = whole;
    two_unknown += std::string(
        "\x0A\x0C\x0A\x03"
        "two"
        "\x15\0\0\0\0\x18\x02",
        14);
    for (const std::string& broken :
         {std::string(), whole.substr(0, whole.size() - 7), whole + std::string(11, '\x80'),
          std::string(500, '\0'), std::string("no model at all"), two_unknown}) {
      lab.put(name, broken);
      check_refused(lab, {"inspect", lab.at(folder)}, {file});
      check_refused(lab, {"inspect", file}, {file});
    }
  }
  lab.copy("model", "both");
  lab.put("both/tokenizer.json", "{");
  check_refused(lab, {"inspect", lab.at("both/tokenizer.json")}, {lab.at("both/tokenizer.json")});
  fs::remove(lab.at("both/tokenizer.json"));
  fs::remove(lab.at("both/config.json"));  // weights beside a tokenizer are a model that lacks it
  check_refused(lab, {"inspect", lab.at("both")}, {lab.at("both"), "config.json"});
  fs::remove(lab.at("alone/tokenizer.model"));
  fs::copy_file(reference + "spm_unigram/tokenizer.model", lab.at("alone/other.model"));
  check_described({"inspect", lab.at("alone/other.model")}, {"sentencepiece model, unigram, "});
}

TEST_CASE("a token file with a right checksum and wrong content is refused by all that read it") {
  const Lab lab;
  const std::string file = lab.at("d.tokens");
  REQUIRE(tenon({"tokenize", "--model", lab.model(), "--data", lab.data(), "--out", file}).code ==
          0);
  check_described({"inspect", file}, {"token file, 1 documents"});
  std::string bytes = lab.get("d.tokens");
  const size_t footer = bytes.size() - 64;
  int64_t special = 0;
  std::memcpy(&special, &bytes[footer + 32], 4);
  const size_t end_of_document = footer - 16 * static_cast<size_t>(special) - 8;
  const int64_t beyond = int64_t{1} << 40;
  std::memcpy(&bytes[end_of_document], &beyond, sizeof beyond);
  const uint64_t hash = XXH3_64bits_withSeed(&bytes[footer], 48, XXH3_64bits(bytes.data(), footer));
  std::memcpy(&bytes[footer + 48], &hash, sizeof hash);
  lab.put("d.tokens", bytes);
  const std::string place = file + "@" + std::to_string(end_of_document) + ": expected document 1";
  check_refused(lab, {"inspect", file}, {place});
  check_refused(lab, lab.finetune({"--data", file}), {place});
  check_refused(lab, lab.finetune({"--val", file}), {place});
  check_refused(lab, {"evaluate", "--model", lab.model(), "--data", file, "--threads", "1"},
                {place});
}

TEST_CASE("no byte of a file reaches the terminal as it is") {
  const Lab lab;
  lab.copy("model", "bad");
  for (const std::string text : {"{\"n_embd\": -\x9b}", "{\"n_embd\": 1.\x1b[31m}",
                                 "{\"\x1b[2J\": 1}", "{\"model_type\": \"\\u001b[31m\\u009b\"}"}) {
    lab.put("bad/config.json", text);
    const Result result = tenon({"inspect", lab.at("bad")});
    INFO(result.err);
    CHECK(result.code == 2);
    CHECK(result.err.find_first_of("\x1b\x9b") == std::string::npos);
  }
}

}  // namespace
}  // namespace tenon::test
