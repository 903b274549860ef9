// SPDX-License-Identifier: Apache-2.0
// In which order files are written, synced, renamed and removed: what is durable at a power cut
// follows from it, and from nothing that can be seen afterwards.
#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>

#include "tests/faults/shim_run.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

// Where `path` was last written to before line `end`.
size_t last_write(const Words& record, const std::string& path, size_t end) {
  for (size_t i = end; i-- > 0;) {
    if (record[i] == "write " + path) return i;
  }
  FAIL("nothing was written to " << path);
  return 0;
}

// A file is synced after its last byte and before it gets its name, and its folder after that.
size_t check_file(const Words& record, const std::string& folder, const std::string& name,
                  size_t from) {
  INFO(folder << "/" << name);
  const std::string temporary = folder + "/." + name + ".tmp";
  const size_t named = place_of(record, "rename " + temporary + " " + folder + "/" + name, from);
  const size_t synced = place_of(record, "fsync " + temporary, from);
  CHECK(last_write(record, temporary, named) < synced);
  CHECK(synced < named);
  return place_of(record, "fsync " + folder, named);
}

}  // namespace

TEST_CASE("a checkpoint gets its name when all of it is durable, and older ones go after that") {
  const Lab lab;
  const Words record =
      recorded(lab, lab.finetune({"--steps", "2", "--save-every", "1", "--keep", "1"}));
  const std::string fresh = "run/checkpoints/step-2.tmp";
  const size_t begin = place_of(record, "mkdir " + fresh);
  size_t durable = 0;
  for (const char* name : {"state.safetensors", "trainer.json", "manifest.json"}) {
    const size_t done = check_file(record, fresh, name, begin);
    CHECK(done > durable);  // the manifest is the last
    durable = done;
  }
  for (const char* name : {"adapter_model.safetensors", "adapter_config.json"}) {
    CHECK(check_file(record, fresh + "/adapter", name, begin) < durable);
  }
  const size_t whole = place_of(record, "fsync " + fresh, durable + 1);
  const size_t named = place_of(record, "rename " + fresh + " run/checkpoints/step-2", whole);
  const size_t known = place_of(record, "fsync run/checkpoints", named);
  CHECK(place_of(record, "rename run/checkpoints/step-1 run/checkpoints/step-1.tmp", begin) >
        known);
  CHECK(place_of(record, "rmdir run/checkpoints/step-1.tmp", begin) > known);
}

TEST_CASE("a new run folder and those above it are durable before anything lies in them") {
  const Lab lab;
  const Words record = recorded(lab, lab.finetune({"--out", lab.at("a/b"), "--steps", "1"}));
  const size_t outer = place_of(record, "mkdir a"), in_lab = place_of(record, "fsync .", outer);
  const size_t inner = place_of(record, "mkdir a/b", in_lab);
  const size_t in_a = place_of(record, "fsync a", inner);
  CHECK(place_of(record, "open a/b/.lock") > in_a);
  const size_t checkpoints = place_of(record, "mkdir a/b/checkpoints");
  CHECK(place_of(record, "fsync a/b", checkpoints) <
        place_of(record, "mkdir a/b/checkpoints/step-1.tmp"));
}

TEST_CASE("what a folder replaces goes when the exchange is durable") {
  const Lab lab;
  const Words init = {"init", "--config", lab.at("model/config.json"), "--out", lab.at("new")};
  REQUIRE(tenon(init).code == 0);
  Words again = init;
  again.insert(again.end(), {"--force", "--seed", "5"});
  const Words record = recorded(lab, again);
  const size_t whole = place_of(record, "fsync new.tmp");
  const size_t swapped = place_of(record, "exchange new.tmp new", whole);
  const size_t known = place_of(record, "fsync .", swapped);
  CHECK(place_of(record, "unlink new.tmp/model.safetensors") > known);
  CHECK(place_of(record, "rmdir new.tmp") > known);
}

TEST_CASE("a file system without exchange: the old folder is put aside, and never lost") {
  const int error = GENERATE(EINVAL, ENOSYS, EOPNOTSUPP);
  const Lab lab;
  const Words init = {"init",  "--config",    lab.at("model/config.json"),
                      "--out", lab.at("new"), "--force"};
  REQUIRE(tenon(init).code == 0);
  Words again = init;
  again.insert(again.end(), {"--seed", "5"});
  const std::string calls = "exchange,rename,fsync,rmdir";
  const size_t at = place_of(recorded(lab, again, {.calls = calls}), "exchange new.tmp new");
  const std::string first = std::to_string(at + 1), third = std::to_string(at + 3);
  REQUIRE(tenon(init).code == 0);
  const Listing before = list(lab.at("new"));

  // Where the new one cannot take the place either, the old one comes back.
  const Result failed = with_fault(lab, again, {calls, first + "," + third, error});
  CHECK(failed.code == 6);
  CHECK_THAT(failed.err, Catch::Contains("could not be renamed to new"));
  CHECK(list(lab.at("new")) == before);

  const Words record = recorded(lab, again, {calls, first, error});
  const size_t swapped = place_of(record, "exchange new.tmp new");
  CHECK(record.at(swapped + 1) == "rename new new.old");
  CHECK(record.at(swapped + 2) == "rename new.tmp new");
  CHECK(record.at(swapped + 3) == "fsync .");
  CHECK(place_of(record, "rmdir new.old") > swapped + 3);
  CHECK(list(lab.at("new")) != before);
}

TEST_CASE("what was put aside gets its name back when its writer was killed") {
  const Lab lab;
  REQUIRE(tenon(lab.finetune({"--steps", "2"})).code == 0);
  const std::string good = "run/checkpoints/step-2", aside = good + ".old.0123456789abcdef";
  const Listing whole = list(lab.at(good));
  fs::rename(lab.at(good), lab.at(aside));
  fs::create_directory(lab.at(good + ".tmp.0123456789abcdef"));
  const Result result = tenon(lab.finetune({"--steps", "2", "--resume", "auto"}));
  INFO(result.err);
  CHECK(result.code == 0);
  CHECK_THAT(result.err, Catch::Contains("(step 2)"));
  CHECK(list(lab.at(good)) == whole);
  CHECK_FALSE(lab.has(aside));
  CHECK_FALSE(lab.has(good + ".tmp.0123456789abcdef"));
}

}  // namespace tenon::test
