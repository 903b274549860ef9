// SPDX-License-Identifier: Apache-2.0
// The whole program with a CUDA device that the harness plays: what a user sees of it, and what is
// said when there is none, or not the right one.
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

// The program on the harness with this card.
Result on_card(const std::string& card, const Words& words, Environment more = {}) {
  Words all = {TENON_CUDA_PROGRAM};
  all.insert(all.end(), words.begin(), words.end());
  more.emplace_back("TENON_CUDA_ON_CPU", card);
  return run(all, more, 200);
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Refused with this exit code and one line that holds the parts, and nothing written.
void refuses(const Lab& lab, const std::string& card, const Words& words, const Words& parts,
             int code) {
  const Listing before = list(lab.path());
  const Result result = on_card(card, words);
  CAPTURE(card, result.err);
  CHECK(result.code == code);
  CHECK(result.out.empty());
  CHECK(lines(result.err).size() == 1);
  for (const std::string& part : parts) CHECK_THAT(result.err, Catch::Contains(part));
  CHECK(list(lab.path()) == before);
}

}  // namespace

TEST_CASE("finetune on a card follows the CPU and says where it runs") {
  const Lab lab;
  const Words words = lab.finetune({"--steps", "3", "--rank", "4"});
  REQUIRE(on_card("sm=80", words).code == 0);
  const Words cpu = lab.metrics("loss");
  CHECK(has(lab.get("run/summary.json"), "\"device\": \"cuda:0, "));  // auto takes the card
  CHECK(lab.has("run/adapter/adapter_model.safetensors"));
  Words with = words;
  with.insert(with.end(), {"--force", "--device", "cpu"});
  REQUIRE(on_card("sm=80", with).code == 0);
  CHECK(has(lab.get("run/summary.json"), "\"device\": \"cpu ("));
  const Words card = lab.metrics("loss");
  REQUIRE(card.size() == 3);
  for (size_t i = 0; i < 3; ++i) CHECK(std::fabs(std::stod(card[i]) - std::stod(cpu[i])) < 1e-4);
  const Result trace =
      on_card("sm=90", lab.finetune({"--steps", "1", "--force"}), {{"TENON_TRACE", "1"}});
  CHECK(trace.code == 0);
  CHECK(has(trace.err, "\nattention_grad sm90 batch="));
}

TEST_CASE("a run stopped on a card goes on there") {
  const Lab lab;
  const Words more = {"--steps", "4", "--device", "cuda", "--save-every", "2"};
  REQUIRE(on_card("sm=80", lab.finetune(more)).code == 0);
  const Words whole = lab.metrics("loss");
  std::filesystem::remove_all(lab.at("run/checkpoints/step-4"));
  Words again = lab.finetune(more);
  again.insert(again.end(), {"--resume", "auto"});
  REQUIRE(on_card("sm=80", again).code == 0);
  CHECK(lab.metrics("loss") == whole);
}

TEST_CASE("a model trained as a whole on a card is written and read again") {
  const Lab lab;
  const auto loss_of = [&](const std::string& device) {
    const Words more = {"--method", "full",    "--steps",  "2",   "--lr",
                        "1e-3",     "--force", "--device", device};
    REQUIRE(on_card("sm=80", lab.finetune(more)).code == 0);
    const Result result = on_card("driver=absent", {"evaluate", "--model", lab.at("run/model"),
                                                    "--data", lab.data(), "--seq-len", "32"});
    REQUIRE(result.code == 0);
    return Json::parse(result.out)["loss"].get<double>();
  };
  CHECK(std::fabs(loss_of("cuda") - loss_of("cpu")) < 1e-4);
}

TEST_CASE("evaluate and generate run on a card") {
  const Lab lab;
  const auto loss = [&](const std::string& device) {
    const Result result = on_card("sm=75", {"evaluate", "--model", lab.model(), "--data",
                                            lab.data(), "--seq-len", "32", "--device", device});
    REQUIRE(result.code == 0);
    return Json::parse(result.out)["loss"].get<double>();
  };
  CHECK(std::fabs(loss("cuda") - loss("cpu")) < 1e-5);
  const auto text = [&](const std::string& device) {
    return on_card("sm=75", {"generate", "--model", lab.model(), "--prompt", "one", "--max-tokens",
                             "6", "--ids", "--temperature", "0.9", "--device", device})
        .out;
  };
  CHECK(text("cuda") == text("cpu"));
}

TEST_CASE("devices that are not there, or not good enough, are told in one line") {
  const Lab lab;
  const Words words = lab.finetune({"--device", "cuda"});
  refuses(lab, "driver=absent", words, {"--device cuda: ", "no CUDA"}, 3);
  refuses(lab, "driver=old", words, {"--device cuda: ", "driver"}, 3);
  refuses(lab, "sm=61", words, {"--device cuda:0: ", "compute capability 6.1, expected 7.0"}, 3);
  refuses(lab, "devices=2", lab.finetune({"--device", "cuda:2"}),
          {"--device cuda:2: this machine has 2 CUDA devices"}, 3);
  refuses(lab, "devices=2", lab.finetune({"--device", "cuda:x"}), {"cuda:N", "cuda:x"}, 2);
  refuses(lab, "sm=75", lab.finetune({"--device", "cuda", "--precision", "bf16"}),
          {"compute capability 7.5", "bf16", "--precision fp16"}, 3);
  refuses(lab, "memory=128KB", words,
          {"out of memory on cuda:0", "asked for weights; held: weights 0."}, 7);
  const Result later = on_card("memory=1MB", words);  // the weights fit, the activations do not
  CHECK(later.code == 7);
  CHECK_THAT(lines(later.err).back(), Catch::Contains("out of memory on cuda:0") &&
                                          Catch::Contains("; held: weights 0.") &&
                                          Catch::Contains("of 1.05 MB free"));
  // Nobody asked for a card: the CPU does.
  for (const char* card : {"driver=absent", "sm=61"}) {
    const Result result = on_card(card, lab.finetune({"--steps", "1", "--force"}));
    CHECK(result.code == 0);
    CHECK(has(lab.get("run/summary.json"), "\"device\": \"cpu ("));
  }
}

}  // namespace tenon::test
