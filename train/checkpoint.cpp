// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint.h"

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>

#include "core/error.h"
#include "core/file.h"
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

// The regular files below `folder`, relative, sorted; but not the manifest.
std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    const fs::path relative = fs::relative(entry.path(), folder);
    if (entry.is_regular_file() && relative != kManifest) files.push_back(relative);
  }
  std::sort(files.begin(), files.end());
  return files;
}

void write_manifest(const fs::path& folder, int64_t step) {
  OrderedJson manifest = {
      {"tenon_checkpoint", kVersion}, {"step", step}, {"files", OrderedJson::array()}};
  for (const fs::path& file : files_below(folder)) {
    manifest["files"].push_back({{"name", file.string()},
                                 {"bytes", static_cast<int64_t>(fs::file_size(folder / file))},
                                 {"xxh3", hex(hash_file(folder / file))}});
  }
  manifest["checksum"] = hex(text_hash(manifest.dump()));
  write_text_atomic(folder / kManifest, manifest.dump(2) + "\n");
}

// "run/" and "." as the folders that they name.
fs::path plain(const fs::path& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

// step-12 -> 12; -1 for any other name.
int64_t step_of(const fs::path& folder) {
  const std::string name = plain(folder).filename().string();
  constexpr const char* kPrefix = "step-";
  if (!name.starts_with(kPrefix) || name.size() > 20) return -1;
  const std::string digits = name.substr(5);
  const bool number = !digits.empty() && std::all_of(digits.begin(), digits.end(),
                                                     [](char c) { return c >= '0' && c <= '9'; });
  return number ? std::stoll(digits) : -1;
}

std::vector<fs::path> checkpoints_newest_first(const fs::path& checkpoints) {
  std::vector<fs::path> folders;
  if (!fs::is_directory(checkpoints)) return folders;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints)) {
    if (entry.is_directory() && step_of(entry.path()) >= 0) folders.push_back(entry.path());
  }
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
    fs::rename(folder, doomed);
    fs::remove_all(doomed);
  }
}

}  // namespace

std::string state_text(const TrainerState& s) {
  // Doubles are stored by their bits: a resumed run must go on with the same ones.
  const auto bits = [](double value) {
    uint64_t pattern = 0;
    std::memcpy(&pattern, &value, sizeof(pattern));
    return hex(pattern);
  };
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
  const auto from_bits = [](const std::string& digits) {
    const uint64_t pattern = std::strtoull(digits.c_str(), nullptr, 16);
    double value = 0;
    std::memcpy(&value, &pattern, sizeof(pattern));
    return value;
  };
  s.best_val = from_bits(json.text("best_val_bits"));
  s.validation_due = json.boolean("validation_due", false);
  s.grad_norm = from_bits(json.text("grad_norm_bits", "0"));
  s.step_seconds = json.number("step_seconds", 0, 1e18, 0);
  return s;
}

fs::path save_checkpoint(const fs::path& checkpoints, const TrainerState& state,
                         Optimizer& optimizer,
                         const std::function<void(const fs::path&)>& write_weights, int64_t keep) {
  fs::create_directories(checkpoints);
  sync_directory(checkpoints.parent_path());
  const fs::path target = checkpoints / fmt::format("step-{}", state.step);
  replace_folder(target, [&](const fs::path& folder) {
    std::vector<Tensor> values;
    write_safetensors(folder / kState, state_tensors(optimizer, values));
    write_text_atomic(folder / kTrainer, state_text(state));
    write_weights(folder);
    write_manifest(folder, state.step);
  });
  prune(checkpoints, state.step, keep);
  return target;
}

int64_t verify_checkpoint(const fs::path& folder) {
  const fs::path path = folder / kManifest;
  const JsonObject manifest = JsonObject::read(path);
  if (manifest.integer("tenon_checkpoint", 1, 1 << 20) != kVersion)
    manifest.reject("tenon_checkpoint", fmt::format("version {}", kVersion));
  OrderedJson content = OrderedJson::parse(read_text(path, kJsonFileBytes));
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
    std::error_code none;
    const auto bytes = fs::file_size(there, none);
    if (none || static_cast<int64_t>(bytes) != entry.integer("bytes", 0, int64_t{1} << 60)) {
      fail_input("{}: expected {} bytes, got {}", shown(there),
                 entry.integer("bytes", 0, int64_t{1} << 60),
                 none ? "no file" : std::to_string(bytes));
    }
    if (hex(hash_file(there)) != entry.text("xxh3"))
      fail_input("{}: its content is not what was written (checksum)", shown(there));
    has_state |= name == kState;
    has_trainer |= name == kTrainer;
  }
  if (!has_state || !has_trainer)
    manifest.reject("files", fmt::format("an entry for {}", has_state ? kTrainer : kState));
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

TrainerState load_checkpoint(const fs::path& folder, Optimizer& optimizer,
                             const std::function<void(const TrainerState&)>& accept) {
  verify_checkpoint(folder);
  const TrainerState state =
      parse_state(read_text(folder / kTrainer, kJsonFileBytes), shown(folder / kTrainer));
  if (accept) accept(state);
  const SafetensorsFile file = SafetensorsFile::open(folder / kState);
  optimizer.visit_state([&](const std::string& name, Tensor& tensor) {
    const TensorEntry* entry = file.find(name);
    if (entry == nullptr || entry->dtype != tensor.dtype() || !has_shape(*entry, tensor.shape())) {
      fail_input("{}: expected a tensor \"{}\" {} {}", shown(folder / kState), name,
                 name_of(tensor.dtype()), tensor.shape().text());
    }
    tensor.assign(Tensor::borrow(entry->data, tensor.shape(), tensor.dtype(), entry->file));
  });
  optimizer.set_steps(state.optimizer_steps);
  return state;
}

void remove_leftovers(const fs::path& folder) {
  if (!fs::is_directory(folder)) return;
  std::vector<fs::path> doomed;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().find(".tmp.") != std::string::npos)
      doomed.push_back(entry.path());
  }
  for (const fs::path& path : doomed) fs::remove_all(path);
}

void replace_folder(const fs::path& target, const std::function<void(const fs::path&)>& fill) {
  const fs::path fresh = unique_sibling(target);
  try {
    fs::create_directories(fresh);
    fill(fresh);
    sync_directory(fresh);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(fresh, ignored);
    throw;
  }
  if (!fs::exists(target)) {
    fs::rename(fresh, target);
  } else if (renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(fresh);  // now the old one; at no moment was there none
  } else {                  // a file system without exchange
    const fs::path old = unique_sibling(target);
    fs::rename(target, old);
    fs::rename(fresh, target);
    fs::remove_all(old);
  }
  sync_directory(plain(target).parent_path());
}

}  // namespace tenon
