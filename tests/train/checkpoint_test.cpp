// SPDX-License-Identifier: Apache-2.0
// Checkpoints are complete or absent: what is saved is loaded bit for bit, and whatever is not
// exactly what was written is refused with its place. Metrics files go on where the run does.
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/folders.h"
#include "core/safetensors.h"
#include "tests/train/tiny_run.h"
#include "train/metrics.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

// A model with an adapter, its optimizer after a few steps, and a state without round numbers.
struct Trained {
  std::unique_ptr<Model> model = tiny_model();
  std::optional<Optimizer> optimizer;
  TrainerState state;

  explicit Trained(uint32_t seed = 1) {
    give_lora(*model, {.rank = 2, .alpha = 4, .targets = {"c_attn"}});
    optimizer.emplace(*model, OptimizerOptions{});
    for (uint32_t step = 0; step < 3; ++step) {
      model->visit_parameters([&](const std::string&, Parameter& parameter) {
        if (!parameter.trainable) return;
        const Tensor& grad = parameter.value.slot()->grad;
        const std::vector<float> random = random_values(grad.numel(), seed++);
        std::copy(random.begin(), random.end(), grad.data<float>());
      });
      optimizer->step(0.01);
    }
    state = {.step = 3,
             .optimizer_steps = 3,
             .tokens = 1234567890123,
             .best_val = 0.1 + 0.2,
             .best_step = 2,
             .evals_without_gain = 1,
             .loss_scale = 32768,
             .good_steps = 77,
             .identity = "a=1\nb=\"2\"\n"};
  }
  std::map<std::string, std::vector<float>> tensors() {
    std::map<std::string, std::vector<float>> all;
    optimizer->visit_state(
        [&](const std::string& name, Tensor& tensor) { all[name] = values(tensor); });
    return all;
  }
  // Writes step-N below `folder`.
  fs::path save(const fs::path& folder, int64_t step = 3, int64_t keep = 10) {
    state.step = step;
    state.optimizer_steps = std::min<int64_t>(3, step);
    state.best_step = std::min<int64_t>(2, step);
    return save_checkpoint(
        folder, state, *optimizer,
        [](const fs::path& target) {
          fs::create_directories(target / "adapter");
          put_file(target / "adapter/notes.txt", "a file below a folder");
        },
        keep);
  }
};

std::string verify_error(const fs::path& checkpoint) {
  return error_of([&] { verify_checkpoint(checkpoint); });
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

// The manifest with changes and, as an attacker or a later version would write it, a checksum that
// fits.
void change_manifest(const fs::path& checkpoint,
                     const std::function<void(nlohmann::ordered_json&)>& change) {
  auto manifest = nlohmann::ordered_json::parse(get_file(checkpoint / "manifest.json"));
  manifest.erase("checksum");
  change(manifest);
  const std::string text = manifest.dump();
  manifest["checksum"] = fmt::format("{:016x}", hash_bytes(std::as_bytes(std::span(text))));
  put_file(checkpoint / "manifest.json", manifest.dump(2) + "\n");
}

// Rewrites a file of the checkpoint, and the manifest as if it had always been so.
void forge(const fs::path& checkpoint, const std::string& name,
           const std::function<void(std::string&)>& change) {
  std::string bytes = get_file(checkpoint / name);
  change(bytes);
  put_file(checkpoint / name, bytes);
  change_manifest(checkpoint, [&](nlohmann::ordered_json& manifest) {
    for (auto& file : manifest["files"]) {
      if (file["name"] != name) continue;
      file["bytes"] = bytes.size();
      file["xxh3"] = fmt::format("{:016x}", hash_file(checkpoint / name));
    }
  });
}

void set_state(const fs::path& checkpoint, const char* field, const Json& value) {
  forge(checkpoint, "trainer.json", [&](std::string& text) {
    Json state = Json::parse(text);
    state[field] = value;
    text = state.dump();
  });
}

}  // namespace

TEST_CASE("a checkpoint that is loaded is the one that was saved", "[checkpoint]") {
  const TempFolder folder;
  Trained saved(1), loaded(50);
  REQUIRE(saved.tensors() != loaded.tensors());
  const fs::path checkpoint = saved.save(folder / "checkpoints");
  CHECK(checkpoint == folder / "checkpoints/step-3");
  CHECK(names_in(checkpoint) ==
        Names{"adapter", "manifest.json", "state.safetensors", "trainer.json"});
  CHECK(names_in(folder / "checkpoints") == Names{"step-3"});
  CHECK(verify_checkpoint(checkpoint) == 3);
  const TrainerState state = load_checkpoint(checkpoint, *loaded.optimizer);
  CHECK(loaded.tensors() == saved.tensors());
  CHECK(loaded.optimizer->steps() == 3);
  CHECK(state_text(state) == state_text(saved.state));
  CHECK(state.best_val == 0.1 + 0.2);
  CHECK(state.tokens == 1234567890123);
  CHECK(state.identity == saved.state.identity);
  // The same content makes the same bytes, and a checkpoint of the same step takes the place.
  const std::string manifest = get_file(checkpoint / "manifest.json");
  saved.save(folder / "checkpoints");
  CHECK(get_file(checkpoint / "manifest.json") == manifest);
  CHECK(names_in(folder / "checkpoints") == Names{"step-3"});
}

TEST_CASE("every bit of a state survives its text", "[checkpoint]") {
  for (const double value : {0.0, -0.0, 1e-310, 5e300, static_cast<double>(INFINITY), 2.0 / 3}) {
    const TrainerState state{.best_val = value};
    const double got = parse_state(state_text(state), "t").best_val;
    CHECK(std::memcmp(&got, &value, sizeof(value)) == 0);
  }
  CHECK(std::isnan(parse_state(state_text({.best_val = NAN}), "t").best_val));
  CHECK_THAT(error_of([] { parse_state("{\"step\": 1}", "trainer.json"); }),
             Catch::StartsWith("2: trainer.json: field \"optimizer_steps\""));
}

TEST_CASE("a manifest that is cut or changed anywhere is refused", "[checkpoint]") {
  const TempFolder folder;
  const fs::path checkpoint = Trained().save(folder / "checkpoints");
  const fs::path path = checkpoint / "manifest.json";
  const std::string good = get_file(path);
  // But for the newline at its end, which says nothing.
  for (size_t length = 0; length + 1 < good.size(); ++length) {
    put_file(path, good.substr(0, length));
    if (!verify_error(checkpoint).starts_with("2: " + shown(path)))
      FAIL("cut at byte " << length << ": " << verify_error(checkpoint));
  }
  for (size_t byte = 0; byte < good.size(); ++byte) {
    std::string bad = good;
    bad[byte] = static_cast<char>(bad[byte] ^ (1 << (byte % 8)));
    put_file(path, bad);
    if (byte + 1 == good.size() && verify_error(checkpoint) == "no error") continue;
    if (!verify_error(checkpoint).starts_with("2: "))
      FAIL("bit flipped in byte " << byte << ": " << verify_error(checkpoint));
  }
  fs::remove(path);
  CHECK_THAT(verify_error(checkpoint), Catch::StartsWith("2: " + shown(path)));
  put_file(path, good);
  CHECK(verify_error(checkpoint) == "no error");
}

TEST_CASE("a file that is cut, longer, changed or missing is named", "[checkpoint]") {
  const TempFolder folder;
  const fs::path checkpoint = Trained().save(folder / "checkpoints");
  for (const char* name : {"state.safetensors", "trainer.json", "adapter/notes.txt"}) {
    const fs::path path = checkpoint / name;
    const std::string good = get_file(path);
    const std::string size = std::to_string(good.size());
    put_file(path, good.substr(0, good.size() - 1));
    CHECK(verify_error(checkpoint) ==
          message(2, path, fmt::format("expected {} bytes, got {}", size, good.size() - 1)));
    put_file(path, good + "x");
    CHECK(verify_error(checkpoint) ==
          message(2, path, fmt::format("expected {} bytes, got {}", size, good.size() + 1)));
    const size_t stride = std::max<size_t>(1, good.size() / 50);
    for (size_t byte = 0; byte < good.size(); byte += stride) {
      std::string bad = good;
      bad[byte] = static_cast<char>(bad[byte] ^ (1 << (byte % 8)));
      put_file(path, bad);
      if (verify_error(checkpoint) !=
          message(2, path, "its content is not what was written (checksum)"))
        FAIL(name << " byte " << byte);
    }
    fs::remove(path);
    CHECK(verify_error(checkpoint) ==
          message(2, path, fmt::format("expected {} bytes, got no file", size)));
    put_file(path, good);
  }
  put_file(checkpoint / "extra", "what somebody else left: not listed, never read");
  CHECK(verify_error(checkpoint) == "no error");
  Trained other(9);
  fs::remove(checkpoint / "state.safetensors");
  CHECK(error_of([&] { load_checkpoint(checkpoint, *other.optimizer); }).starts_with("2: "));
}

TEST_CASE("a manifest that fits its checksum is still not trusted", "[checkpoint]") {
  const TempFolder folder;
  const fs::path checkpoint = Trained().save(folder / "checkpoints");
  const std::string good = get_file(checkpoint / "manifest.json");
  using Manifest = nlohmann::ordered_json;
  const std::pair<std::function<void(Manifest&)>, const char*> cases[] = {
      {[](Manifest& m) { m["step"] = 4; },
       "field \"step\": expected the folder's own step, 3, got 4"},
      {[](Manifest& m) { m["tenon_checkpoint"] = 2; },
       "field \"tenon_checkpoint\": expected version 1, got 2"},
      {[](Manifest& m) { m["files"][0]["name"] = "../../outside"; },
       "field \"name\": expected a path inside the checkpoint"},
      {[](Manifest& m) { m["files"][0]["name"] = "/etc/hostname"; },
       "field \"name\": expected a path inside the checkpoint"},
      {[](Manifest& m) { m["files"][0]["name"] = "adapter/../../x"; },
       "field \"name\": expected a path inside the checkpoint"},
      {[](Manifest& m) { m["files"] = Manifest::array(); },
       "field \"files\": expected an entry for "},
      {[](Manifest& m) { m["files"].erase(1); },
       "field \"files\": expected an entry for state.safetensors"},
      {[](Manifest& m) { m["files"].erase(2); },
       "field \"files\": expected an entry for trainer.json"},
      {[](Manifest& m) { m["files"][0].erase("xxh3"); }, "field \"xxh3\""},
      {[](Manifest& m) { m["files"] = 7; }, "expected"},
      {[](Manifest& m) { m.erase("files"); }, "field \"files\""},
  };
  for (const auto& [change, text] : cases) {
    INFO(text);
    change_manifest(checkpoint, change);
    CHECK_THAT(
        verify_error(checkpoint),
        Catch::StartsWith("2: " + shown(checkpoint / "manifest.json")) && Catch::Contains(text));
    put_file(checkpoint / "manifest.json", good);
  }
  change_manifest(checkpoint, [](Manifest&) {});
  CHECK(verify_error(checkpoint) == "no error");
  fs::rename(checkpoint, folder / "checkpoints/step-5");
  CHECK_THAT(verify_error(folder / "checkpoints/step-5"),
             Catch::Contains("expected the folder's own step, 5, got 3"));
}

TEST_CASE("the newest good checkpoint is used, and the others' faults are told", "[checkpoint]") {
  const TempFolder folder;
  const fs::path checkpoints = folder / "checkpoints";
  CHECK(!newest_checkpoint(checkpoints).folder);
  Trained trained;
  for (const int64_t step : {2, 9, 10, 11}) trained.save(checkpoints, step);
  CHECK(newest_checkpoint(checkpoints).folder == checkpoints / "step-11");
  CHECK(newest_checkpoint(checkpoints).rejected.empty());
  fs::remove(checkpoints / "step-11/manifest.json");
  put_file(checkpoints / "step-10/trainer.json", "{}");
  // What a writer that was killed leaves, and names that are not checkpoints.
  fs::copy(checkpoints / "step-9", checkpoints / "step-12.tmp.abcd1234",
           fs::copy_options::recursive);
  fs::copy(checkpoints / "step-9", checkpoints / "step-12x", fs::copy_options::recursive);
  fs::copy(checkpoints / "step-9", checkpoints / "step-", fs::copy_options::recursive);
  put_file(checkpoints / "step-99", "not a folder");
  const Found found = newest_checkpoint(checkpoints);
  CHECK(found.folder == checkpoints / "step-9");
  REQUIRE(found.rejected.size() == 2);
  CHECK_THAT(found.rejected[0], Catch::Contains("step-11/manifest.json"));
  CHECK_THAT(found.rejected[1], Catch::Contains("step-10/trainer.json: expected "));

  remove_leftovers(checkpoints);
  CHECK(names_in(checkpoints) ==
        Names{"step-", "step-10", "step-11", "step-12x", "step-2", "step-9", "step-99"});
  CHECK(newest_checkpoint(checkpoints).folder == checkpoints / "step-9");
  remove_leftovers(folder / "is not there");
}

TEST_CASE("a checkpoint whose parts speak of other states is refused, whatever its sums",
          "[checkpoint]") {
  const TempFolder folder;
  Trained trained;
  const fs::path checkpoint = trained.save(folder / "checkpoints", 9);
  trained.save(folder / "checkpoints", 4);
  const Json good = Json::parse(get_file(checkpoint / "trainer.json"));
  const auto refused = [&](const char* field, const Json& value, const std::string& expected) {
    INFO(field);
    set_state(checkpoint, field, value);
    CHECK_THAT(verify_error(checkpoint),
               Catch::StartsWith("2: " + shown(checkpoint / "trainer.json")) &&
                   Catch::Contains(fmt::format("field \"{}\": expected {}", field, expected)));
    const Found found = newest_checkpoint(folder / "checkpoints");
    CHECK(found.folder == folder / "checkpoints/step-4");
    CHECK(found.rejected.size() == 1);
    set_state(checkpoint, field, good[field]);
    CHECK(verify_error(checkpoint) == "no error");
  };
  refused("step", 8, "9, as the manifest has it, got 8");
  refused("step", 10, "9, as the manifest has it, got 10");
  refused("optimizer_steps", 10, "at most \"step\"");
  refused("best_step", 10, "at most \"step\"");
  refused("evals_without_gain", 10, "at most \"step\"");
  refused("loss_scale", 0, "more than 0");
  for (const char* bits : {"", "3fd", "3fd333333333333g", "0x3fd33333333333", "3fd33333333333334"})
    refused("best_val_bits", bits, "16 hexadecimal digits");
}

TEST_CASE("weights and moments that no run can have are refused, whatever their sums",
          "[checkpoint]") {
  const TempFolder folder;
  Trained trained;
  const fs::path checkpoint = trained.save(folder / "checkpoints");
  const SafetensorsFile file = SafetensorsFile::open(checkpoint / "state.safetensors");
  const std::string whole = get_file(checkpoint / "state.safetensors");
  const auto refused = [&](const std::string& end, float value, const std::string& expected) {
    const auto entry = std::find_if(file.entries().begin(), file.entries().end(),
                                    [&](const TensorEntry& e) { return e.name.ends_with(end); });
    REQUIRE(entry != file.entries().end());
    const int64_t last = entry->elements() - 1;
    const size_t at = static_cast<size_t>(entry->data - entry->file->data()) + 4 * last;
    forge(checkpoint, "state.safetensors", [&](std::string& bytes) {
      bytes = whole;
      std::memcpy(bytes.data() + at, &value, sizeof value);
    });
    CHECK(verify_error(checkpoint) == "no error");
    CHECK_THAT(error_of([&] { load_checkpoint(checkpoint, *trained.optimizer); }),
               Catch::StartsWith("2: " + shown(checkpoint / "state.safetensors")) &&
                   Catch::Contains(entry->name) && Catch::Contains(expected) &&
                   Catch::EndsWith(fmt::format("at element {}", last)));
  };
  refused("lora_A.weight", NAN, "expected finite values, got nan");
  refused("lora_B.weight.m", INFINITY, "expected finite values, got inf");
  refused("lora_A.weight.v", -1e-9F, "expected nothing below 0, got -1e-09");
  refused("lora_A.weight.v", NAN, "expected nothing below 0, got nan");
}

TEST_CASE("links that lead nowhere among checkpoints are passed over, and told", "[checkpoint]") {
  const TempFolder folder;
  const fs::path checkpoints = folder / "checkpoints";
  Trained trained;
  trained.save(checkpoints, 5);
  fs::create_symlink("nowhere", checkpoints / "step-7");
  fs::create_symlink("step-8", checkpoints / "step-8");
  const Found found = newest_checkpoint(checkpoints);
  CHECK(found.folder == checkpoints / "step-5");
  REQUIRE(found.rejected.size() == 2);
  CHECK_THAT(found.rejected[0], Catch::Contains("step-8"));
  CHECK_THAT(found.rejected[1], Catch::Contains("step-7"));
  trained.save(checkpoints, 9, 1);  // and the links go like other old ones
  CHECK(names_in(checkpoints) == Names{"step-9"});
}

TEST_CASE("the newest checkpoints are kept, and always the one just made", "[checkpoint]") {
  const TempFolder folder;
  const fs::path checkpoints = folder / "checkpoints";
  Trained trained;
  for (const int64_t step : {1, 2, 3, 9, 10}) trained.save(checkpoints, step, 2);
  CHECK(names_in(checkpoints) == Names{"step-10", "step-9"});
  // The run went on from step 5, as what comes later was damaged.
  put_file(checkpoints / "step-9/trainer.json", "{}");
  put_file(checkpoints / "step-10/trainer.json", "{}");
  trained.save(checkpoints, 6, 1);
  CHECK(newest_checkpoint(checkpoints).folder == checkpoints / "step-6");
  trained.save(checkpoints, 10, 1);
  CHECK(names_in(checkpoints) == Names{"step-10"});
  CHECK(newest_checkpoint(checkpoints).folder == checkpoints / "step-10");
}

TEST_CASE("a checkpoint that cannot be finished leaves nothing", "[checkpoint]") {
  const TempFolder folder;
  const fs::path checkpoints = folder / "checkpoints";
  Trained trained;
  trained.save(checkpoints, 1);
  trained.state.step = 2;
  const auto broken = [](const fs::path&) { fail(Exit::kIo, "the disk is full"); };
  CHECK(error_of([&] {
          save_checkpoint(checkpoints, trained.state, *trained.optimizer, broken, 1);
        }) == "6: the disk is full");
  CHECK(names_in(checkpoints) == Names{"step-1"});
  CHECK(verify_checkpoint(checkpoints / "step-1") == 1);
}

TEST_CASE("a checkpoint of another model is refused", "[checkpoint]") {
  const TempFolder folder;
  const fs::path checkpoint = Trained().save(folder / "checkpoints");
  const auto model = tiny_model();
  const LoraOptions options = GENERATE(LoraOptions{.rank = 3, .alpha = 4, .targets = {"c_attn"}},
                                       LoraOptions{.rank = 2, .alpha = 4, .targets = {"c_fc"}});
  attach_lora(*model, options, 1);
  Optimizer optimizer(*model, {});
  CHECK_THAT(error_of([&] { load_checkpoint(checkpoint, optimizer); }),
             Catch::StartsWith("2: " + shown(checkpoint / "state.safetensors") +
                               ": expected a tensor \"transformer.h.0."));
}

TEST_CASE("a checkpoint that the caller does not accept is not loaded", "[checkpoint]") {
  const TempFolder folder;
  const fs::path checkpoint = Trained().save(folder / "checkpoints");
  Trained other(50);
  const auto before = other.tensors();
  const auto refuse = [](const TrainerState& state) {
    fail(Exit::kEnvironment, "another run: {}", state.tokens);
  };
  CHECK(error_of([&] { load_checkpoint(checkpoint, *other.optimizer, refuse); }) ==
        "3: another run: 1234567890123");
  CHECK(other.tensors() == before);
}

TEST_CASE("a folder is replaced as a whole or not at all", "[checkpoint]") {
  const TempFolder folder;
  const auto fill = [](const char* text) {
    return [text](const fs::path& target) { put_file(target / text, text); };
  };
  replace_folder(folder / "adapter", fill("old"));
  replace_folder(folder / "adapter", fill("new"));
  CHECK(names_in(folder / "adapter") == Names{"new"});
  CHECK(error_of([&] {
          replace_folder(folder / "adapter", [](const fs::path& target) {
            put_file(target / "half", "");
            fail(Exit::kIo, "no");
          });
        }) == "6: no");
  CHECK(names_in(folder / "adapter") == Names{"new"});
  CHECK(names_in(folder.path()) == Names{"adapter"});
}

TEST_CASE("metrics go on behind the step of the checkpoint, whatever the end of the file is",
          "[metrics]") {
  const TempFolder folder;
  std::string warnings;
  const auto warn = [&](const std::string& text) { warnings += text; };
  const auto write = [&](int64_t after, int64_t first, int64_t last, double loss) {
    Metrics metrics(folder.path(), after, warn);
    for (int64_t step = first; step <= last; ++step) {
      metrics.write({.step = step,
                     .loss = loss,
                     .val_loss = step % 2 == 0 ? std::optional(2.5) : std::nullopt});
    }
  };
  write(0, 1, 5, 1.25);
  CHECK(metric(folder.path(), "step") == std::vector<double>{1, 2, 3, 4, 5});
  const std::string csv = get_file(folder / "metrics.csv"),
                    jsonl = get_file(folder / "metrics.jsonl");
  CHECK_THAT(
      csv,
      Catch::StartsWith(
          "step,epoch,tokens,loss,val_loss,perplexity,lr,grad_norm,tokens_per_"
          "second,step_seconds,memory_peak_bytes,loss_scale,skipped_steps\n1,0,0,1.25,,3.49034"));
  CHECK(metric(folder.path(), "perplexity")[1] == Approx(std::exp(2.5)));

  // Killed anywhere in the last row of either file.
  const size_t row = jsonl.size() - jsonl.rfind('\n', jsonl.size() - 2) - 1;
  for (size_t cut = 0; cut <= row; cut += 7) {
    put_file(folder / "metrics.jsonl", jsonl.substr(0, jsonl.size() - cut));
    put_file(folder / "metrics.csv", csv.substr(0, csv.size() - std::min<size_t>(cut, 10)));
    write(3, 4, 6, 0.5);
    CHECK(metric(folder.path(), "step") == std::vector<double>{1, 2, 3, 4, 5, 6});
    CHECK(metric(folder.path(), "loss") == std::vector<double>{1.25, 1.25, 1.25, 0.5, 0.5, 0.5});
    const std::string now = get_file(folder / "metrics.csv");
    CHECK(std::count(now.begin(), now.end(), '\n') == 7);
    CHECK(now.substr(0, now.find("\n4,")) == csv.substr(0, csv.find("\n4,")));
  }
  // A torn row of step 12 looks like one of step 1.
  write(3, 4, 12, 0.5);
  for (const char* name : {"metrics.csv", "metrics.jsonl"}) {
    const std::string rows = get_file(folder / name);
    put_file(folder / name, rows.substr(0, rows.rfind("12,") + 1));
  }
  write(8, 9, 9, 0.5);
  const std::string torn = get_file(folder / "metrics.csv");
  CHECK(std::count(torn.begin(), torn.end(), '\n') == 10);
  CHECK(metric(folder.path(), "step").size() == 9);
  // Not even the header was finished.
  put_file(folder / "metrics.csv", "step,epo");
  put_file(folder / "metrics.jsonl", "{\"st");
  write(0, 1, 5, 1.25);
  CHECK(get_file(folder / "metrics.csv") == csv);
  CHECK(get_file(folder / "metrics.jsonl") == jsonl);
  CHECK(warnings.empty());
}

TEST_CASE("metrics that cannot be written warn once and stop nothing", "[metrics]") {
  const TempFolder folder;
  std::vector<std::string> warnings;
  Metrics metrics(folder / "is not there", 0,
                  [&](const std::string& text) { warnings.push_back(text); });
  for (int64_t step = 1; step < 4; ++step) metrics.write({.step = step});
  REQUIRE(warnings.size() == 1);
  CHECK_THAT(warnings[0], Catch::Contains("is not there"));
}

TEST_CASE("a manifest with more names than a checkpoint has is refused by its size") {
  const TempFolder folder;
  fs::create_directory(folder / "step-3");
  const fs::path manifest = folder / "step-3/manifest.json";
  put_file(manifest, "{\"tenon_checkpoint\": 1, \"files\": [");
  fs::resize_file(manifest, 80'000'000);
  CHECK(error_of([&] { verify_checkpoint(folder / "step-3"); }) ==
        message(2, manifest, "expected at most 1048576 bytes, got 80000000"));
}

}  // namespace tenon::test
