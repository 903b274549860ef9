// SPDX-License-Identifier: Apache-2.0
// The program under mpirun: the same losses however many ranks there are, and errors that end the
// job with one line and leave nothing behind.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/tools/jobs.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

TEST_CASE("one, two and three ranks give the same losses") {
  const Lab lab;
  // Seven rows are left for the last step of an epoch, and a batch does not divide by the ranks.
  const Words more = {"--batch", "5",           "--steps", "10",           "--lora-dropout",
                      "0.1",     "--val-split", "0.2",     "--eval-every", "5"};
  const auto losses = [&](int ranks) {
    const std::string out = "run" + std::to_string(ranks);
    Words words = more;
    words.insert(words.end(), {"--out", lab.at(out)});
    const Result result = tenon_ranks(ranks, lab.finetune(words));
    INFO(result.err);
    REQUIRE(result.code == 0);
    CHECK(lines(lab.get(out + "/ranks.csv")).size() == static_cast<size_t>(ranks) + 1);
    CHECK(lab.metrics("step", out).size() == 10);
    Words all = lab.metrics("loss", out);
    all.push_back(lab.metrics("val_loss", out).back());
    return all;
  };
  const Words alone = losses(1);
  for (const int ranks : {2, 3}) {
    const Words together = losses(ranks);
    for (size_t i = 0; i < alone.size(); ++i) {
      CHECK(std::fabs(std::stod(alone[i]) - std::stod(together[i])) <= 1e-6);
    }
  }
}

TEST_CASE("ranks without a row in a step take part") {
  const Lab lab;
  std::string documents;
  for (int i = 0; i < 7; ++i) documents += "{\"text\": \"The fox saw the river.\"}\n";
  lab.put("d.jsonl", documents);
  // 3 + 3 + 1 rows an epoch: two of three ranks have none in the third step.
  const Words words = lab.finetune({"--data", lab.at("d.jsonl"), "--packing", "none", "--batch",
                                    "3", "--steps", "0", "--epochs", "2"});
  REQUIRE(tenon(words).code == 0);
  const Words alone = lab.metrics("loss");
  fs::remove_all(lab.out());
  REQUIRE(tenon_ranks(3, words).code == 0);
  const Words together = lab.metrics("loss");
  REQUIRE(alone.size() == 6);
  REQUIRE(together.size() == 6);
  for (size_t i = 0; i < alone.size(); ++i) {
    CHECK(std::fabs(std::stod(alone[i]) - std::stod(together[i])) <= 1e-6);
  }
}

TEST_CASE("evaluate shares the work") {
  const Lab lab;
  const Words words = {"evaluate", "--model", lab.model(), "--data", lab.data(), "--seq-len", "16"};
  const Json alone = Json::parse(tenon(words).out);
  const Result result = tenon_ranks(2, words);
  REQUIRE(result.code == 0);
  REQUIRE(lines(result.out).size() == 1);
  const Json together = Json::parse(result.out);
  CHECK(together.at("tokens") == alone.at("tokens"));
  CHECK(std::fabs(together.at("loss").get<double>() - alone.at("loss").get<double>()) <= 1e-6);
}

TEST_CASE("ranks share windows, answers and the comparison") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--lr", "0.5"})).code == 0);
  const Words compared = {"--adapter", lab.at("run/adapter"), "--compare-base"};
  Words windows = {"evaluate", "--model", lab.model(), "--data", lab.data(),
                   "--stride", "7",       "--seq-len", "16"};
  windows.insert(windows.end(), compared.begin(), compared.end());
  const Json alone = Json::parse(tenon(windows).out),
             together = Json::parse(tenon_ranks(3, windows).out);
  for (const char* model : {"base", "adapter"}) {
    for (const char* count : {"tokens", "bytes", "rows", "documents"})
      CHECK(alone.at(model).at(count) == together.at(model).at(count));
    CHECK(std::fabs(alone.at(model).at("loss").get<double>() -
                    together.at(model).at("loss").get<double>()) <= 1e-6);
  }

  // Answers are the same to the letter, drawn ones too; more ranks than prompts do no harm.
  std::string data;
  for (const char* prompt : {"The fox", "Nobody", "A river", "The hill saw", "Old"})
    data += Json{{"prompt", prompt}, {"completion", " the river."}}.dump() + "\n";
  lab.put("qa.jsonl", data);
  Words answers = {"evaluate",
                   "--model",
                   lab.model(),
                   "--task",
                   "generate",
                   "--data",
                   lab.at("qa.jsonl"),
                   "--batch",
                   "2",
                   "--temperature",
                   "1",
                   "--max-tokens",
                   "6",
                   "--force",
                   "--samples",
                   lab.at("s.jsonl")};
  answers.insert(answers.end(), compared.begin(), compared.end());
  for (const char* limit : {"5", "2"}) {
    Words limited = answers;
    limited.insert(limited.end(), {"--limit", limit});
    const std::string said = tenon(limited).out, samples = lab.get("s.jsonl");
    CHECK(std::to_string(lines(samples).size()) == limit);
    CHECK(tenon_ranks(3, limited).out == said);
    CHECK(lab.get("s.jsonl") == samples);
  }
}

TEST_CASE("ranks share the tokenizing") {
  const Lab lab;
  std::string records;
  for (int i = 0; i < 50; ++i) records += Json{{"text", sentences(1 + i % 4)}}.dump() + "\n";
  records += "{\"text\": 1}\n";  // is passed over, and counted whichever rank does so
  lab.put("d.jsonl", records);
  const Words words = {"tokenize", "--model",         lab.model(), "--skip-bad", "--data",
                       lab.data(), lab.at("d.jsonl"), "--threads", "1"};
  const auto with = [&](const Words& more) {
    Words all = words;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  REQUIRE(tenon(with({"--out", lab.at("alone.tokens")})).code == 0);
  const std::string ids = tenon(with({"--ids"})).out;
  CHECK(lines(ids).size() == 51);
  for (const int ranks : {2, 3}) {
    const std::string out = std::to_string(ranks) + ".tokens";
    REQUIRE(tenon_ranks(ranks, with({"--out", lab.at(out)})).code == 0);
    CHECK(lab.get(out) == lab.get("alone.tokens"));
    CHECK(tenon_ranks(ranks, with({"--ids"})).out == ids);
  }
}

TEST_CASE("bad input under mpirun is one line") {
  const Lab lab;
  check_job_refused(lab, mpirun_words(2, tenon_words(lab.finetune({"--targets", "nope"}))), 2,
                    {"nope", "c_attn"});
  lab.put("empty.txt", "");
  check_job_refused(lab,
                    mpirun_words(2, tenon_words(lab.finetune({"--data", lab.at("empty.txt")}))), 2,
                    {"empty.txt"});
  check_job_refused(lab,
                    mpirun_words(2, tenon_words({"evaluate", "--model", lab.model(), "--data",
                                                 lab.at("empty.txt")})),
                    2, {"empty.txt"});
  lab.put("pairs.jsonl", "{}");
  check_job_refused(lab,
                    mpirun_words(2, tenon_words({"evaluate", "--score", lab.at("pairs.jsonl")})), 2,
                    {"pairs.jsonl", "hypothesis"});
}

TEST_CASE("wrong usage under mpirun is one line, from whichever rank has it") {
  const Lab lab;
  check_job_refused(lab, mpirun_words(2, tenon_words(lab.finetune({"--nope", "1"}))), 2,
                    {"unknown option --nope"});
  check_job_refused(lab, mpirun_words(3, tenon_words(lab.finetune({"--lr", "x"}))), 2, {"--lr"});
  check_job_refused(lab, mpirun_words(2, tenon_words({"finetune", "--config", lab.at("none")})), 2,
                    {"none"});
  check_job_refused(lab, mpirun_words(2, tenon_words({"dance"})), 2, {"unknown command"});
  check_job_refused(lab, mpirun_words(2, tenon_words({"inspect", lab.at("none")})), 2, {"none"});
  check_job_refused(lab, differing(lab, lab.finetune(), "--nope", "1"), 2, {"--nope"});
  const Result help = tenon_ranks(2, {"finetune", "--help"});
  CHECK(help.code == 0);
  CHECK(help.out == tenon({"finetune", "--help"}).out);
}

TEST_CASE("ranks with other kernels, or with none, are refused") {
  const Lab lab;
  const auto job = [&](const std::string& second) {
    lab.put("kernels.sh",
            "[ \"$OMPI_COMM_WORLD_RANK\" = 1 ] && export TENON_CPU=" + second + "\nexec \"$@\"\n");
    Words words = {"/bin/bash", lab.at("kernels.sh")};
    for (const std::string& word : tenon_words(lab.finetune())) words.push_back(word);
    return mpirun_words(2, words);
  };
  ::setenv("TENON_CPU", "avx2", 1);
  const bool vectors = tenon({"--version"}).out.find("avx2") != std::string::npos;
  if (vectors) {
    check_job_refused(lab, job("scalar"), 3,
                      {"ranks disagree: kernels (TENON_CPU): rank 0: avx2, rank 1: scalar"});
  }
  ::setenv("TENON_CPU", "scalar", 1);
  CHECK(run(job("scalar")).code == 0);
  fs::remove_all(lab.out());
  check_job_refused(lab, job("avx9"), 3, {"rank 1/2", "TENON_CPU=avx9: expected one of "});
  ::unsetenv("TENON_CPU");
}

TEST_CASE("more ranks than sequences") {
  const Lab lab;
  check_job_refused(lab, mpirun_words(3, tenon_words(lab.finetune({"--batch", "2"}))), 2,
                    {"ranks (3)", "--batch of 2"});
  lab.put("two.jsonl", "{\"text\": \"The fox.\"}\n{\"text\": \"The sea.\"}\n");
  check_job_refused(
      lab,
      mpirun_words(3,
                   tenon_words(lab.finetune({"--data", lab.at("two.jsonl"), "--packing", "none"}))),
      2, {"ranks (3)", "2 of data"});
}

TEST_CASE("ranks that disagree name the difference") {
  const Lab lab;
  lab.put("other.txt", sentences(119));
  lab.copy("model", "other");
  lab.edit_tensors("other/model.safetensors", [](Json&, std::string& data) { data[99] ^= 1; });
  const auto refused = [&](const std::string& flag, const std::string& value, const Words& parts) {
    INFO(flag);
    const Words job = differing(lab, lab.finetune(), flag, value);
    check_job_refused(lab, job, 3, parts);
  };
  refused("--data", lab.at("other.txt"), {"ranks disagree: data content: rank 0: ", ", rank 1: "});
  refused("--model", lab.at("other"), {"ranks disagree: model content: "});
  refused("--lr", "0.5", {"ranks disagree: --lr: rank 0: auto, rank 1: 0.5"});
  refused("--steps", "7", {"ranks disagree: --steps: rank 0: 6, rank 1: 7"});
  refused("--save-every", "7", {"ranks disagree: --save-every: rank 0: 200, rank 1: 7"});
}

TEST_CASE("a file that one rank lacks ends the job, and the rank is named") {
  const Lab lab;
  check_job_refused(lab, differing(lab, lab.finetune(), "--data", lab.at("none.txt")), 2,
                    {"rank 1/2", "none.txt"});
  check_job_refused(lab, differing(lab, lab.finetune(), "--model", lab.at("none")), 2,
                    {"rank 1/2", "none"});
}

TEST_CASE("the same content elsewhere, and of another time, agrees") {
  const Lab lab;
  lab.copy("data.txt", "copy.txt");
  fs::last_write_time(lab.at("copy.txt"), fs::file_time_type::clock::now() - std::chrono::hours(9));
  const Result result = run(differing(lab, lab.finetune(), "--data", lab.at("copy.txt")));
  INFO(result.err);
  CHECK(result.code == 0);
}

TEST_CASE("ranks whose clocks show different days train on rank 0's") {
  const Lab lab;
  lab.put("model/chat_template.jinja",
          "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}");
  lab.put(
      "chat.jsonl",
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"
      "\n"
      R"({"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})"
      "\n");
  // A folder of its own for each rank, and 24 hours between them.
  lab.put("wrapper.sh",
          "mkdir -p \"" + lab.at("") + "$OMPI_COMM_WORLD_RANK\" && cd \"" + lab.at("") +
              "$OMPI_COMM_WORLD_RANK\"\n[ \"$OMPI_COMM_WORLD_RANK\" = 1 ] && export TZ=XXX-12 || "
              "export TZ=XXX12\nexec \"$@\"\n");
  const Words words = lab.finetune({"--data", lab.at("chat.jsonl"), "--train-on", "everything",
                                    "--packing", "none", "--batch", "2", "--out", "run"});
  Words job = {"/bin/bash", lab.at("wrapper.sh")};
  const Words program = tenon_words(words);
  job.insert(job.end(), program.begin(), program.end());
  const Result result = run(mpirun_words(2, job));
  INFO(result.err);
  REQUIRE(result.code == 0);
  const std::string config = lab.get("0/run/config.yaml");
  const std::string date = config.substr(config.find("\ndate: ") + 7, 10);
  Words alone = words;
  alone.insert(alone.end(), {"--date", date});
  *(std::find(alone.begin(), alone.end(), "run")) = lab.at("alone");
  REQUIRE(tenon(alone).code == 0);
  for (size_t i = 0; i < 6; ++i) {
    CHECK(std::fabs(std::stod(lab.metrics("loss", "0/run")[i]) -
                    std::stod(lab.metrics("loss", "alone")[i])) <= 1e-6);
  }
}

TEST_CASE("a run may go on with another number of ranks") {
  const Lab lab;
  const Words words = lab.finetune({"--steps", "10", "--save-every", "5", "--val-split", "0.2",
                                    "--lora-dropout", "0.1", "--resume", "auto"});
  REQUIRE(tenon(words).code == 0);
  const Words losses = lab.metrics("loss");
  fs::remove_all(lab.at("run/checkpoints/step-10"));
  fs::remove_all(lab.at("run/adapter"));
  const Result result = tenon_ranks(2, words);
  INFO(result.err);
  REQUIRE(result.code == 0);
  CHECK_THAT(result.err, Catch::Contains("step-5 (step 5)"));
  const Words together = lab.metrics("loss");
  REQUIRE(together.size() == 10);
  for (size_t i = 0; i < 10; ++i) {
    CHECK(std::fabs(std::stod(losses[i]) - std::stod(together[i])) <= 1e-6);
  }
}

TEST_CASE("a loss that is not a number is told once") {
  const Lab lab;
  lab.edit_tensors("model/model.safetensors", [](Json&, std::string& data) {
    for (size_t i = 3; i < data.size(); i += 4) data[i] = data[i - 1] = '\x7f';
  });
  const Result result = tenon_ranks(2, lab.finetune());
  INFO(result.err);
  CHECK(result.code == 4);
  CHECK(errors_of(result).size() == 1);
}

}  // namespace
}  // namespace tenon::test
