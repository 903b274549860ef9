// SPDX-License-Identifier: Apache-2.0
// The weights of a model folder, in one file or in shards with an index, as Hugging Face lays them
// out: `model.safetensors`, or `model.safetensors.index.json` and
// `model-00001-of-00005.safetensors`, ...; and the same with `pytorch_model.bin`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/safetensors.h"

namespace tenon {

inline constexpr int64_t kShardBytes = 5'000'000'000;  // as Hugging Face cuts them

// Every tensor of a model folder, wherever it lies.
class WeightFiles {
 public:
  // `path` is a model folder, or a file as TensorFile::open() reads it. Takes safetensors before
  // .bin, and the single file before the index.
  // Throws Error(kInput) with all disagreements of index and shards together (a tensor that the
  // index does not name is none), and for weights in formats that Tenon does not read.
  static WeightFiles open(const std::filesystem::path& path);
  // One file that is open already, called `source` in messages.
  static WeightFiles of(TensorFile file, const std::filesystem::path& source);
  WeightFiles(WeightFiles&&) = default;
  WeightFiles& operator=(WeightFiles&&) = default;

  const TensorEntry* find(std::string_view name) const;  // nullptr when there is none
  std::vector<std::string_view> names() const;           // sorted
  int64_t total_bytes() const;                           // of the tensors
  const std::vector<TensorFile>& files() const { return files_; }

  // Reads every file from front to back in large pieces, so that the system has their pages: for file
  // systems on which single pages are slow to come.
  void read_ahead() const;
  // Whether one of them lies on such a file system: NFS, Lustre, FUSE and the like.
  bool on_network() const;

  // The file that was taken (the index, when sharded), and what the log should say about it.
  const std::filesystem::path& source() const { return source_; }
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  WeightFiles() = default;
  void open_shards(const std::filesystem::path& index);

  std::filesystem::path source_;
  std::vector<std::string> notes_;
  std::vector<TensorFile> files_;
  std::unordered_map<std::string_view, const TensorEntry*> entries_;  // into files_
};

// Writes `model.safetensors` into a folder when the tensors fit one shard; else shards filled in
// the order given, and their index last. Returns the files in the order written. Requires: the
// folder exists and has no weights yet (else Error(kInput)); names as write_safetensors() wants
// them.
std::vector<WrittenFile> write_sharded(const std::filesystem::path& folder,
                                       std::span<const TensorToWrite> tensors,
                                       int64_t max_shard_bytes = kShardBytes);

// At most five of `names` in quotes, then how many more: for messages that list.
std::string some_of(const std::vector<std::string_view>& names);

}  // namespace tenon
