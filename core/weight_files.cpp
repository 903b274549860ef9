// SPDX-License-Identifier: Apache-2.0
#include "core/weight_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// Where a folder may have its weights, in the order of preference; the index of shards is the one
// that ends in .json.
constexpr const char* kSources[] = {"model.safetensors", "model.safetensors.index.json",
                                    "pytorch_model.bin", "pytorch_model.bin.index.json"};
constexpr const char *kSingle = kSources[0], *kIndex = kSources[1];
constexpr size_t kMaxShards = 10'000;  // each is a mapping, and the system allows 65530

bool present(const fs::path& path) { return files::is_link(path) || files::exists(path); }

// Says what the folder has instead of weights that are read.
[[noreturn]] void fail_no_weights(const fs::path& folder) {
  for (const fs::path& path : files::list(folder)) {
    if (path.extension() != ".gguf") continue;
    fail_input("{}: expected {}, got only {}: GGUF is not read; take the model's safetensors",
               shown(folder), kSingle, shown(path.filename()));
  }
  fail_input("{}: expected {}, got none", shown(folder), fmt::join(kSources, " or "));
}

// A shard is a file in the folder itself: an index must not lead elsewhere.
bool is_shard_name(const std::string& name, std::string_view extension) {
  const std::string_view view = name;
  return view.size() <= 255 && view.ends_with(extension) &&
         view.find_first_of("/\\") == view.npos && view.find('\0') == view.npos &&
         !view.starts_with('.');
}

// True when `shard` leads out of `folder` through links, except into the `blobs` of the Hugging
// Face cache: `snapshots/<revision>/NAME` is a link to `../../blobs/<hash>`.
bool leads_out(const fs::path& folder, const fs::path& shard) {
  if (!files::is_link(shard)) return false;
  const fs::path home = files::real(folder);
  const fs::path target = files::real(shard).parent_path();
  return target != home && target != home.parent_path().parent_path() / "blobs";
}

std::string list(const char* what, std::vector<std::string_view> names) {
  if (names.empty()) return "";
  std::sort(names.begin(), names.end());
  return fmt::format("{}: {}", what, some_of(names));
}

struct Index {
  std::map<std::string, std::string> shard_of;  // tensor -> file name
  std::vector<std::string> shards;              // distinct, sorted
  std::optional<uint64_t> total_size;
};

Index read_index(const fs::path& path) {
  // NAME.safetensors.index.json names .safetensors files.
  const std::string extension = path.stem().stem().extension().string();
  const JsonObject json = JsonObject::read(path, kLargeJsonFileBytes);
  const JsonObject map = json.object("weight_map");
  Index index;
  for (const std::string& name : map.keys()) {
    const std::string shard = map.text(name);
    if (!is_shard_name(shard, extension)) {
      map.reject(name, fmt::format("the name of a {} file beside the index", extension));
    }
    index.shards.push_back(shard);
    index.shard_of.emplace(name, shard);
  }
  std::sort(index.shards.begin(), index.shards.end());
  index.shards.erase(std::unique(index.shards.begin(), index.shards.end()), index.shards.end());
  if (index.shards.empty()) json.reject("weight_map", "at least one tensor");
  if (index.shards.size() > kMaxShards) {
    fail_input("{}: expected at most {} shards, got {}", json.where(), kMaxShards,
               index.shards.size());
  }
  // Some writers leave the size out or make it a float; it is only compared.
  if (const Json* metadata = json.find("metadata"); metadata != nullptr && metadata->is_object()) {
    const auto size = metadata->find("total_size");
    if (size != metadata->end() && size->is_number_unsigned()) {
      index.total_size = size->get<uint64_t>();
    }
  }
  return index;
}

}  // namespace

std::string some_of(const std::vector<std::string_view>& names) {
  constexpr size_t kShown = 5;
  std::vector<std::string> quoted;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i)
    quoted.push_back(fmt::format("\"{}\"", printable(names[i])));
  const std::string more =
      names.size() > kShown ? fmt::format(" and {} more", names.size() - kShown) : "";
  return fmt::format("{}{}", fmt::join(quoted, ", "), more);
}

WeightFiles WeightFiles::open(const fs::path& path) {
  WeightFiles weights;
  weights.source_ = path;
  if (files::is_folder(path)) {
    std::vector<const char*> found;
    for (const char* name : kSources) {
      if (present(path / name)) found.push_back(name);
    }
    if (found.empty()) fail_no_weights(path);
    weights.source_ = path / found[0];
    if (found.size() > 1) {
      weights.notes_.push_back(
          fmt::format("{}: has {}: took the first", shown(path), fmt::join(found, " and ")));
    }
  }
  if (weights.source_.extension() == ".json") {
    weights.open_shards(weights.source_);
  } else {
    weights.files_.push_back(TensorFile::open(weights.source_));
  }
  for (const TensorFile& file : weights.files_) {
    for (const TensorEntry& entry : file.entries()) weights.entries_.emplace(entry.name, &entry);
  }
  return weights;
}

WeightFiles WeightFiles::of(TensorFile file, const fs::path& source) {
  WeightFiles weights;
  weights.source_ = source;
  weights.files_.push_back(std::move(file));
  for (const TensorEntry& entry : weights.files_.front().entries())
    weights.entries_.emplace(entry.name, &entry);
  return weights;
}

bool WeightFiles::on_network() const {
  // Of linux/magic.h and the file systems' own sources: NFS, SMB, CIFS, SMB2, FUSE (sshfs and others),
  // Lustre, GPFS, BeeGFS, Ceph, 9P, AFS.
  constexpr uint32_t kKinds[] = {0x6969,     0x517B,     0xFF534D42, 0xFE534D42,
                                 0x65735546, 0x0BD00BD0, 0x47504653, 0x19830326,
                                 0x00C36400, 0x01021997, 0x5346414F};
  return std::any_of(files_.begin(), files_.end(), [&](const TensorFile& file) {
    struct statfs stat;
    return ::statfs(file.file()->path().c_str(), &stat) == 0 &&
           std::find(std::begin(kKinds), std::end(kKinds), static_cast<uint32_t>(stat.f_type)) !=
               std::end(kKinds);
  });
}

void WeightFiles::read_ahead() const {
  constexpr size_t kPiece = size_t{16} << 20;
  const std::unique_ptr<char[]> piece(new char[kPiece]);
  for (const TensorFile& file : files_) {
    const fs::path& path = file.file()->path();
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail_system(path, "be opened", errno);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    ssize_t count = 0;
    do {
      count = ::read(fd, piece.get(), kPiece);
    } while (count > 0 || (count < 0 && errno == EINTR));
    const int error = count < 0 ? errno : 0;
    ::close(fd);
    if (error != 0) fail_system(path, "be read", error);
  }
}

void WeightFiles::open_shards(const fs::path& path) {
  const fs::path folder = path.parent_path();
  const Index index = read_index(path);
  std::vector<std::string_view> missing, outside;
  for (const std::string& shard : index.shards) {
    if (!present(folder / shard)) missing.push_back(shard);
    if (leads_out(folder, folder / shard)) outside.push_back(shard);
  }
  if (!missing.empty()) {
    fail_input("{}: expected all shards, missing {}", shown(source_), some_of(missing));
  }
  if (!outside.empty()) {
    fail_input("{}: expected files in its own folder, got links out of it: {}", shown(source_),
               some_of(outside));
  }

  std::vector<std::string_view> absent, repeated;
  std::unordered_set<std::string_view> unlisted;  // an index need not name all that lies beside
  std::unordered_set<const std::byte*> counted;   // tensors that share their bytes count once
  uint64_t total = 0;
  for (const std::string& shard : index.shards) {
    files_.push_back(TensorFile::open(folder / shard));
    for (const TensorEntry& entry : files_.back().entries()) {
      const auto mapped = index.shard_of.find(entry.name);
      const bool listed = mapped != index.shard_of.end();
      if (listed ? mapped->second != shard : !unlisted.insert(entry.name).second)
        repeated.push_back(entry.name);
      if (entry.bytes > 0 && counted.insert(entry.data).second)
        total += static_cast<uint64_t>(entry.bytes);
    }
  }
  for (const auto& [name, shard] : index.shard_of) {
    const auto at =
        std::lower_bound(index.shards.begin(), index.shards.end(), shard) - index.shards.begin();
    if (files_[static_cast<size_t>(at)].find(name) == nullptr) absent.push_back(name);
  }
  std::vector<std::string> faults = {list("tensors missing from their shard", absent),
                                     list("tensors that also lie in another shard", repeated)};
  std::erase(faults, "");
  if (!faults.empty()) {
    fail_input("{}: expected index and shards to agree, got {}", shown(source_),
               fmt::join(faults, "; "));
  }
  if (index.total_size && *index.total_size != total) {
    notes_.push_back(fmt::format("{}: metadata.total_size is {}, the shards have {} bytes",
                                 shown(source_), *index.total_size, total));
  }
}

const TensorEntry* WeightFiles::find(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : found->second;
}

std::vector<std::string_view> WeightFiles::names() const {
  std::vector<std::string_view> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

int64_t WeightFiles::total_bytes() const {
  int64_t total = 0;
  for (const auto& [name, entry] : entries_) total += entry->bytes;
  return total;
}

std::vector<WrittenFile> write_sharded(const fs::path& folder,
                                       std::span<const TensorToWrite> tensors,
                                       int64_t max_shard_bytes) {
  for (const char* name : {kSingle, kIndex}) {
    if (present(folder / name)) {
      fail_input("{}: expected a folder without weights, got {}", shown(folder), name);
    }
  }
  std::vector<std::span<const TensorToWrite>> shards;
  int64_t shard_bytes = 0, total_bytes = 0, total_elements = 0;
  size_t begin = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t bytes = tensors[i].bytes();
    if (i > begin && shard_bytes + bytes > max_shard_bytes) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      shard_bytes = 0;
    }
    shard_bytes += bytes;
    total_bytes += bytes;
    total_elements += tensors[i].elements();
  }
  shards.push_back(tensors.subspan(begin));
  if (shards.size() == 1) return {write_safetensors(folder / kSingle, tensors)};

  std::vector<WrittenFile> written;
  Json map = Json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name =
        fmt::format("model-{:05d}-of-{:05d}.safetensors", i + 1, shards.size());
    written.push_back(write_safetensors(folder / name, shards[i]));
    for (const TensorToWrite& tensor : shards[i]) {
      TENON_CHECK(!map.contains(tensor.name), "[write_sharded] expected distinct names, got {}",
                  tensor.name);
      map[tensor.name] = name;
    }
  }
  const Json index = {
      {"metadata", {{"total_parameters", total_elements}, {"total_size", total_bytes}}},
      {"weight_map", std::move(map)}};
  AtomicFile file(folder / kIndex);
  file.write(index.dump(2) + "\n");
  written.push_back({folder / kIndex, file.size(), file.hash()});
  file.commit();
  return written;
}

}  // namespace tenon
