// SPDX-License-Identifier: Apache-2.0
#include "core/tensor_file.h"

#include "core/safetensors.h"
#include "core/torch_file.h"

namespace tenon {

int64_t TensorEntry::elements() const {
  int64_t product = 1;
  for (const int64_t dim : shape) product *= dim;
  return product;
}

TensorFile::TensorFile(std::shared_ptr<const MappedFile> file, std::vector<TensorEntry> entries,
                       std::map<std::string, std::string> metadata)
    : file_(std::move(file)), entries_(std::move(entries)), metadata_(std::move(metadata)) {
  for (size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].name, i);
}

TensorFile TensorFile::open(const std::filesystem::path& path) {
  if (has_torch_name(path)) return read_torch_file(path);
  return SafetensorsFile::open(path);
}

const TensorEntry* TensorFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

bool has_torch_name(const std::filesystem::path& path) {
  const std::filesystem::path extension = path.extension();
  return extension == ".bin" || extension == ".pt" || extension == ".pth";
}

std::string_view kind_of_content(std::string_view text) {
  const auto starts = [&](std::string_view magic) { return text.starts_with(magic); };
  std::string head(text.substr(
      text.find_first_not_of(" \t\r\n") == text.npos ? 0 : text.find_first_not_of(" \t\r\n"), 16));
  for (char& c : head) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (text.empty()) return "an empty file";
  if (starts("GGUF")) return "a GGUF file (llama.cpp)";
  if (starts("PK\x03\x04")) return "a zip archive (a PyTorch .bin or .pt is one)";
  if (starts("\x80\x02") || starts("\x80\x03") || starts("\x80\x04") || starts("\x80\x05")) {
    return "a Python pickle (PyTorch before 1.6 wrote such files: load it there and save it again "
           "with torch.save)";
  }
  if (starts("\x89HDF\r\n\x1a\n")) return "an HDF5 file (Keras): convert it to safetensors";
  if (starts("\x1f\x8b")) return "a gzip file: unpack it first";
  if (starts("\x28\xb5\x2f\xfd")) return "a zstd file: unpack it first";
  if (starts("version https://git-lfs")) {
    return "a git-lfs pointer: fetch the file itself with git lfs pull";
  }
  if (head.starts_with("<!doctype") || head.starts_with("<html") || head.starts_with("<?xml")) {
    return "a web page: the download failed";
  }
  if (head.starts_with("{\"error\"")) return "an error message of a server: the download failed";
  if (head.starts_with('{') || head.starts_with('[')) return "JSON";
  return {};
}

}  // namespace tenon
