// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>

#include "core/error.h"
#include "core/file.h"
#include "core/finite.h"
#include "core/folders.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "models/weights.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kManifest = "manifest.json";
constexpr const char* kState = "state.safetensors";
constexpr const char* kTrainer = "trainer.json";
constexpr int kVersion = 1;
// A checkpoint has a dozen files; this is thousands of entries, and read in no time.
constexpr int64_t kManifestBytes = int64_t{1} << 20;

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

uint64_t text_hash(const std::string& text) { return hash_bytes(std::as_bytes(std::span(text))); }

// The optimizer's state; `values` keeps the bytes alive until they are written.
std::vector<TensorToWrite> state_tensors(Optimizer& optimizer, std::vector<Tensor>& values) {
  std::vector<TensorToWrite> tensors;
  optimizer.visit_state([&](const std::string& name, Tensor& tensor) {
    std::vector<int64_t> dims;
    for (int axis = 0; axis < tensor.shape().rank(); ++axis) dims.push_back(tensor.dim(axis));
    values.push_back(tensor.to(Device::kCPU, MemoryKind::kWorkspace));
    tensors.push_back({name, tensor.dtype(), dims, values.back().raw()});
  });
  return tensors;
}

void write_manifest(const fs::path& folder, int64_t step) {
  OrderedJson manifest = {
      {"tenon_checkpoint", kVersion}, {"step", step}, {"files", OrderedJson::array()}};
  for (const fs::path& file : files::files_below(folder)) {
    if (file == kManifest) continue;
    manifest["files"].push_back({{"name", file.string()},
                                 {"bytes", files::size(folder / file)},
                                 {"xxh3", hex(hash_file(folder / file))}});
  }
  manifest["checksum"] = hex(text_hash(manifest.dump()));
  write_text_atomic(folder / kManifest, manifest.dump(2) + "\n");
}

// step-12 -> 12; -1 for any other name.
int64_t step_of(const fs::path& folder) {
  const std::string name = files::absolute(folder).filename().string();
  constexpr const char* kPrefix = "step-";
  if (!name.starts_with(kPrefix) || name.size() > 20) return -1;
  const std::string digits = name.substr(5);
  const bool number = !digits.empty() && std::all_of(digits.begin(), digits.end(),
                                                     [](char c) { return c >= '0' && c <= '9'; });
  return number ? std::stoll(digits) : -1;
}

// What has the name of a checkpoint and may be one: a link may lead anywhere.
std::vector<fs::path> checkpoints_newest_first(const fs::path& checkpoints) {
  if (!files::is_folder(checkpoints)) return {};
  std::vector<fs::path> folders = files::list(checkpoints);
  std::erase_if(folders, [](const fs::path& path) {
    return step_of(path) < 0 || (!files::is_link(path) && files::is_file(path));
  });
  std::sort(folders.begin(), folders.end(),
            [](const fs::path& a, const fs::path& b) { return step_of(a) > step_of(b); });
  return folders;
}

// Keeps the checkpoint just made and those before it. A run that went on from an older one because
// newer ones were damaged has those beyond it still: they do not count.
void prune(const fs::path& checkpoints, int64_t newest, int64_t keep) {
  int64_t kept = 0;
  for (const fs::path& folder : checkpoints_newest_first(checkpoints)) {
    if (step_of(folder) > newest || ++kept <= keep) continue;
    // Renamed first: a removal that is interrupted leaves no half checkpoint under a good name.
    const fs::path doomed = unique_sibling(folder);
    files::rename(folder, doomed);
    files::remove_tree(doomed);
  }
}

TrainerState read_state(const fs::path& folder) {
  return parse_state(read_text(folder / kTrainer, kJsonFileBytes), shown(folder / kTrainer));
}

// The double whose bits are stored as 16 hexadecimal digits.
double from_bits(const JsonObject& json, const char* name) {
  const std::string text = json.text(name);
  uint64_t pattern = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pattern, 16);
  if (text.size() != 16 || error != std::errc() || end != text.data() + text.size())
    json.reject(name, "16 hexadecimal digits");
  return std::bit_cast<double>(pattern);
}

// A step that a validation or an update was at lies behind the run, not before it.
void check_state(const JsonObject& json, const TrainerState& s) {
  if (s.optimizer_steps > s.step) json.reject("optimizer_steps", "at most \"step\"");
  if (s.best_step > s.step) json.reject("best_step", "at most \"step\"");
  if (s.evals_without_gain > s.step) json.reject("evals_without_gain", "at most \"step\"");
  if (s.loss_scale <= 0) json.reject("loss_scale", "more than 0");
}

// Weights and first moments are finite, what is a mean or a largest of sizes is no less than 0, or no
// run was there. Codes may be any.
void check_values(const TensorEntry& entry, const fs::path& path) {
  constexpr const char* kSizes[] = {".v", ".m_scales", ".v_scales", ".row", ".column"};
  const bool size = std::any_of(std::begin(kSizes), std::end(kSizes),
                                [&](const char* end) { return entry.name.ends_with(end); });
  if (!is_float(*entry.dtype)) return;
  for (int64_t i = 0; i < entry.elements(); ++i) {
    const float value = element_of(entry.data, i, *entry.dtype);
    if (size ? value >= 0 : std::isfinite(value)) continue;
    fail_input("{}: tensor \"{}\": expected {}, got {} at element {}", shown(path),
               printable(entry.name), size ? "nothing below 0" : "finite values", value, i);
  }
}

}  // namespace

std::string state_text(const TrainerState& s) {
  // Doubles are stored by their bits: a resumed run must go on with the same ones.
  const auto bits = [](double value) { return hex(std::bit_cast<uint64_t>(value)); };
  const OrderedJson json = {{"step", s.step},
                            {"optimizer_steps", s.optimizer_steps},
                            {"tokens", s.tokens},
                            {"seconds", s.seconds},
                            {"first_loss", s.first_loss},
                            {"last_loss", s.last_loss},
                            {"best_val", s.best_val},
                            {"best_val_bits", bits(s.best_val)},
                            {"best_step", s.best_step},
                            {"evals_without_gain", s.evals_without_gain},
                            {"loss_scale", s.loss_scale},
                            {"good_steps", s.good_steps},
                            {"validation_due", s.validation_due},
                            {"grad_norm_bits", bits(s.grad_norm)},
                            {"step_seconds", s.step_seconds},
                            {"identity", s.identity}};
  return json.dump(2) + "\n";
}

TrainerState parse_state(const std::string& text, const std::string& where) {
  constexpr int64_t kMost = int64_t{1} << 60;
  const JsonObject json(parse_json(text, where), where);
  TrainerState s;
  s.step = json.integer("step", 0, kMost);
  s.optimizer_steps = json.integer("optimizer_steps", 0, kMost);
  s.tokens = json.integer("tokens", 0, kMost);
  s.seconds = json.number("seconds", 0, 1e18);
  s.first_loss = json.number("first_loss", -1e300, 1e300);
  s.last_loss = json.number("last_loss", -1e300, 1e300);
  s.best_step = json.integer("best_step", -1, kMost);
  s.evals_without_gain = json.integer("evals_without_gain", 0, kMost);
  s.loss_scale = json.number("loss_scale", 0, 1e30);
  s.good_steps = json.integer("good_steps", 0, kMost);
  s.identity = json.text("identity");
  s.best_val = from_bits(json, "best_val_bits");
  s.validation_due = json.boolean("validation_due", false);
  if (json.has("grad_norm_bits")) s.grad_norm = from_bits(json, "grad_norm_bits");
  s.step_seconds = json.number("step_seconds", 0, 1e18, 0);
  check_state(json, s);
  return s;
}

fs::path save_checkpoint(const fs::path& checkpoints, const TrainerState& state,
                         Optimizer& optimizer,
                         const std::function<void(const fs::path&)>& write_weights, int64_t keep,
                         const std::function<void(const std::string&)>& warn) {
  // Not those above it: a run folder that was moved away must not come back.
  files::make_folder(files::absolute(checkpoints));
  const fs::path target = checkpoints / fmt::format("step-{}", state.step);
  std::string leftover = replace_folder(target, [&](const fs::path& folder) {
    std::vector<Tensor> values;
    write_safetensors(folder / kState, state_tensors(optimizer, values));
    write_text_atomic(folder / kTrainer, state_text(state));
    write_weights(folder);
    write_manifest(folder, state.step);
  });
  try {
    prune(checkpoints, state.step, keep);
  } catch (const Error& e) {
    leftover = e.what();
  }
  if (!leftover.empty() && warn) warn("an old checkpoint stays: " + leftover);
  return target;
}

int64_t verify_checkpoint(const fs::path& folder) {
  const fs::path path = folder / kManifest;
  const JsonObject manifest = JsonObject::read(path, kManifestBytes);
  if (manifest.integer("tenon_checkpoint", 1, 1 << 20) != kVersion)
    manifest.reject("tenon_checkpoint", fmt::format("version {}", kVersion));
  OrderedJson content = OrderedJson::parse(read_text(path, kManifestBytes));
  const std::string checksum = manifest.text("checksum");
  content.erase("checksum");
  if (checksum != hex(text_hash(content.dump())))
    manifest.reject("checksum", "the checksum of the manifest's own text");
  const int64_t step = manifest.integer("step", 0, int64_t{1} << 60);
  if (step_of(folder) != step)
    manifest.reject("step", fmt::format("the folder's own step, {}", step_of(folder)));
  bool has_state = false, has_trainer = false;
  for (const OrderedJson& file : content.value("files", OrderedJson::array())) {
    const JsonObject entry(Json::parse(file.dump()), shown(path));
    const std::string name = entry.text("name");
    const fs::path relative(name);
    if (relative.is_absolute() || std::any_of(relative.begin(), relative.end(),
                                              [](const fs::path& part) { return part == ".."; })) {
      entry.reject("name", "a path inside the checkpoint");
    }
    const fs::path there = folder / relative;
    const int64_t expected = entry.integer("bytes", 0, int64_t{1} << 60);
    const bool is_file = files::is_file(there);
    if (!is_file || files::size(there) != expected) {
      fail_input("{}: expected {} bytes, got {}", shown(there), expected,
                 is_file ? std::to_string(files::size(there)) : "no file");
    }
    if (hex(hash_file(there)) != entry.text("xxh3"))
      fail_input("{}: its content is not what was written (checksum)", shown(there));
    has_state |= name == kState;
    has_trainer |= name == kTrainer;
  }
  if (!has_state || !has_trainer)
    manifest.reject("files", fmt::format("an entry for {}", has_state ? kTrainer : kState));
  const TrainerState state = read_state(folder);
  if (state.step != step) {
    fail_input("{}: field \"step\": expected {}, as the manifest has it, got {}",
               shown(folder / kTrainer), step, state.step);
  }
  return step;
}

Found newest_checkpoint(const fs::path& checkpoints) {
  Found found;
  for (const fs::path& folder : checkpoints_newest_first(checkpoints)) {
    try {
      verify_checkpoint(folder);
      found.folder = folder;
      return found;
    } catch (const Error& e) {
      found.rejected.push_back(e.what());
    }
  }
  return found;
}

std::string last_good_text(const fs::path& run) {
  try {
    const Found found = newest_checkpoint(run / "checkpoints");
    return "last good checkpoint: " + (found.folder ? shown(*found.folder) : "none");
  } catch (const Error&) {  // the fault that ends the run may be this one as well
    return "last good checkpoint: not known";
  }
}

TrainerState load_checkpoint(const fs::path& folder, Optimizer& optimizer,
                             const std::function<void(const TrainerState&)>& accept) {
  verify_checkpoint(folder);
  const TrainerState state = read_state(folder);
  if (accept) accept(state);
  const SafetensorsFile file = SafetensorsFile::open(folder / kState);
  optimizer.visit_state([&](const std::string& name, Tensor& tensor) {
    const TensorEntry* entry = file.find(name);
    if (entry == nullptr || entry->dtype != tensor.dtype() || !has_shape(*entry, tensor.shape())) {
      fail_input("{}: expected a tensor \"{}\" {} {}", shown(folder / kState), name,
                 name_of(tensor.dtype()), tensor.shape().text());
    }
    check_values(*entry, folder / kState);
    tensor.assign(Tensor::borrow(entry->data, tensor.shape(), tensor.dtype(), entry->file));
  });
  optimizer.set_steps(state.optimizer_steps);
  return state;
}

}  // namespace tenon
