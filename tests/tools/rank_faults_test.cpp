// SPDX-License-Identifier: Apache-2.0
// Ranks that are killed, stopped, slow or asked to end, under mpirun.
#include <signal.h>

#include <catch2/catch.hpp>

#include "tests/tools/jobs.h"

namespace tenon::test {
namespace {

TEST_CASE("kill -9 of a rank ends the job; --resume auto ends as an undisturbed run") {
  const Lab lab;
  REQUIRE(tenon_ranks(2, long_run(lab, "calm")).code == 0);
  for (const size_t victim : {size_t{0}, size_t{1}}) {
    Process job(mpirun_words(2, tenon_words(long_run(lab, "run"))));
    const std::vector<pid_t> ranks = ranks_of(job);
    REQUIRE(ranks.size() == 2);
    ::kill(ranks[victim], SIGKILL);
    const Result killed = job.wait(15);
    CHECK(killed.code != kTimeout);
    CHECK(killed.code != 0);
    CHECK(eventually([&] { return ::kill(ranks[1 - victim], 0) != 0; }, 10));
  }
  const Result last = tenon_ranks(2, long_run(lab, "run"));
  INFO(last.err);
  REQUIRE(last.code == 0);
  CHECK(list(lab.at("run/adapter")) == list(lab.at("calm/adapter")));
  CHECK(lab.metrics("loss", "run") == lab.metrics("loss", "calm"));
  CHECK(lab.metrics("step", "run").size() == 400);
}

TEST_CASE("SIGTERM to one rank stops all of them after a saved step") {
  const Lab lab;
  Process job(mpirun_words(2, tenon_words(long_run(lab, "run"))));
  const std::vector<pid_t> ranks = ranks_of(job);
  REQUIRE(ranks.size() == 2);
  ::kill(ranks[1], SIGTERM);
  const Result stopped = job.wait(15);
  INFO(stopped.err);
  CHECK(stopped.code == 75);
  CHECK(Json::parse(lab.get("run/summary.json")).at("end") == "stopped by a signal");
}

TEST_CASE("SIGUSR1 to mpirun stops all ranks after a saved step") {
  const Lab lab;
  Process job(mpirun_words(2, tenon_words(long_run(lab, "run"))));
  ranks_of(job);
  job.signal(SIGUSR1);
  const Result stopped = job.wait(15);
  INFO(stopped.err);
  CHECK(stopped.code == 75);
  const Json steps = Json::parse(lab.get("run/summary.json")).at("steps");
  CHECK(lab.has("run/checkpoints/step-" + steps.dump()));
}

TEST_CASE("SIGTERM to mpirun: a good checkpoint stands, and it is said what would give time") {
  const Lab lab;
  Process job(mpirun_words(2, tenon_words(long_run(lab, "run"))));
  REQUIRE(eventually([&] { return lab.has("run/checkpoints/step-40"); }));
  job.signal(SIGTERM);
  const Result stopped = job.wait(15);
  INFO(stopped.err);
  if (stopped.code == 0) return;  // the machine was faster
  CHECK(stopped.code != kTimeout);
  CHECK(errors_of(stopped).empty());
  // The run may end at mpirun's SIGCONT, a second before the SIGTERM that makes ranks speak.
  const size_t told = stopped.err.find("checkpoint that stands: ");
  if (told != std::string::npos) {
    const std::string line = stopped.err.substr(told, stopped.err.find('\n', told) - told);
    CHECK_THAT(line, Catch::Contains(lab.at("run/checkpoints/step-")) &&
                         Catch::Contains("SIGUSR1") &&
                         Catch::Contains("odls_base_sigkill_timeout"));
  }
  CHECK_THAT(tenon({"inspect", lab.out()}).out, Catch::Contains("newest good checkpoint step-"));
}

TEST_CASE("a slow rank is named while the run goes on") {
  const Lab lab;
  Process job(mpirun_words(2, tenon_words(long_run(lab, "run"))));
  const std::vector<pid_t> ranks = ranks_of(job);
  REQUIRE(ranks.size() == 2);
  // Stopped for most of the time, it takes several times as long.
  const auto named = [&] { return job.err().find("is slow: it computed") != std::string::npos; };
  for (int i = 0; i < 1000 && !named() && !job.ended(); ++i) {
    ::kill(ranks[1], SIGSTOP);
    sleep_ms(15);
    ::kill(ranks[1], SIGCONT);
    sleep_ms(3);
  }
  INFO(job.err());
  CHECK(named());
  job.signal(SIGUSR1);
  job.wait(20);
}

TEST_CASE("a rank that answers no more is named, with what the others wait in") {
  const Lab lab;
  Process job(mpirun_words(2, tenon_words(long_run(lab, "run", {"--timeout", "1"}))));
  const std::vector<pid_t> ranks = ranks_of(job);
  REQUIRE(ranks.size() == 2);
  ::kill(ranks[1], SIGSTOP);
  const Result ended = job.wait(30);
  INFO(ended.err);
  CHECK(ended.code == 5);
  REQUIRE(errors_of(ended).size() == 1);
  for (const char* part :
       {"rank 0/2", "all_", "bytes", "in step ", "waiting for rank 1 (", "does not answer"}) {
    CHECK_THAT(errors_of(ended)[0], Catch::Contains(part));
  }
  CHECK_THAT(ended.err, Catch::Contains("tenon: warning: [rank 0/2 "));
}

}  // namespace
}  // namespace tenon::test
