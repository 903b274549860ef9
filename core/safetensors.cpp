// SPDX-License-Identifier: Apache-2.0
#include "core/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/finite.h"
#include "core/json.h"

namespace tenon {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the format is little-endian and so are Tenon's machines");

// Ours, so that a file that is made to be slow is refused before it is: the largest checkpoints have
// some ten thousand tensors in a file, and notes of a few megabytes.
constexpr size_t kMaxTensors = 250'000, kMaxValues = 4'000'000, kMaxStringBytes = size_t{16} << 20;

struct Format {
  std::string_view name;
  int64_t bits;
  std::optional<DType> dtype;
};

// In the format's own order; files are written in its reverse.
constexpr std::array<Format, 22> kFormats = {{
    {"BOOL", 8, {}},
    {"F4", 4, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"U8", 8, DType::kU8},
    {"I8", 8, DType::kI8},
    {"F8_E5M2", 8, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},
    {"I32", 32, DType::kI32},
    {"U32", 32, {}},
    {"F32", 32, DType::kF32},
    {"C64", 64, {}},
    {"F64", 64, {}},
    {"I64", 64, DType::kI64},
    {"U64", 64, {}},
}};

const Format* format_named(std::string_view name) {
  const auto found = std::find_if(kFormats.begin(), kFormats.end(),
                                  [&](const Format& f) { return f.name == name; });
  return found == kFormats.end() ? nullptr : &*found;
}

const Format& format_of(DType dtype) {
  const auto has = [&](const Format& format) { return format.dtype == dtype; };
  return *std::find_if(kFormats.begin(), kFormats.end(), has);
}

const Format& format_of(const TensorToWrite& tensor) {
  if (tensor.format.empty()) return format_of(tensor.dtype);
  const Format* format = format_named(tensor.format);
  TENON_CHECK(format != nullptr, "[write_safetensors] {}: no format {}", tensor.name,
              tensor.format);
  return *format;
}

// Reads one file's header into entries.
class HeaderReader {
 public:
  HeaderReader(std::shared_ptr<const MappedFile> file, std::map<std::string, std::string>& metadata)
      : file_(std::move(file)), where_(shown(file_->path())), metadata_(metadata) {}

  std::vector<TensorEntry> read() {
    const std::string_view header = find_header();
    check_size(header);
    const auto member = [&](std::string& name, Json& value, int64_t byte) {
      read_member(name, value, byte);
    };
    parse_json_members(header, where_ + ": header", member);
    check_names();
    check_layout();
    std::vector<TensorEntry> entries;
    entries.reserve(found_.size());
    for (Found& found : found_) entries.push_back(std::move(found.entry));
    return entries;
  }

 private:
  struct Found {
    TensorEntry entry;
    uint64_t begin, end;
  };

  std::string_view find_header() {
    const std::string_view text = file_->text();
    uint64_t length = 0;
    if (text.size() >= sizeof length) std::memcpy(&length, text.data(), sizeof length);
    const bool plausible =
        text.size() >= sizeof length && length <= static_cast<uint64_t>(kSafetensorsHeaderBytes);
    const bool fits = plausible && length <= text.size() - sizeof length;
    const std::string_view header = fits ? text.substr(sizeof length, length) : std::string_view();
    const size_t first =
        header.find_first_not_of(" \t\r\n");  // blanks first are legal though no writer makes them
    if (first != header.npos && header[first] == '{') {
      data_ = file_->data() + sizeof length + length;
      data_bytes_ = text.size() - sizeof length - length;
      return header;
    }
    if (const std::string_view kind = kind_of_content(text); !kind.empty()) {
      fail_input("{}: expected a safetensors file, got {}", where_, kind);
    }
    if (text.size() < sizeof length) {
      fail_input("{}: expected at least 8 bytes, got {}", where_, text.size());
    }
    if (!plausible) {
      fail_input("{}@0: expected a header length up to {}, got {} (not a safetensors file?)",
                 where_, kSafetensorsHeaderBytes, length);
    }
    if (!fits) {
      fail_input("{}@0: expected a header of {} bytes, got {} (the file is cut short)", where_,
                 length, text.size() - sizeof length);
    }
    fail_input("{}@8: expected a header that starts with '{{', got \"{}\"", where_,
               printable(header, 16));
  }

  // Parsing takes a copy of a string and some time for a value: a header that is made of one, or of
  // many that say nothing about tensors, is refused before.
  void check_size(std::string_view header) const {
    size_t values = 0;
    for (size_t at = 0; at < header.size(); ++at) {
      if (header[at] != '"') {
        values += header[at] == ',';
        continue;
      }
      const size_t begin = ++at;
      while (at < header.size() && header[at] != '"') at += header[at] == '\\' ? 2 : 1;
      if (at - begin > kMaxStringBytes) {
        fail_input("{}@{}: expected strings of at most {} bytes, got one of {}", where_, begin + 8,
                   kMaxStringBytes, at - begin);
      }
    }
    if (values > kMaxValues) {
      fail_input("{}: header: expected at most {} values, got {}", where_, kMaxValues, values + 1);
    }
  }

  template <class... Args>
  [[noreturn]] void reject(const std::string& name, fmt::format_string<Args...> format,
                           Args&&... args) const {
    fail_input("{} tensor \"{}\": {}", where_, printable(name),
               fmt::format(format, std::forward<Args>(args)...));
  }

  void read_member(std::string& name, Json& value, int64_t byte) {
    if (name != "__metadata__") return read_tensor(name, value);
    if (has_metadata_) fail_input("{}@{}: expected one __metadata__, got two", where_, byte + 8);
    has_metadata_ = true;
    if (value.is_null()) return;
    if (!value.is_object()) {
      fail_input("{}: __metadata__: expected an object, got {}", where_, brief(value));
    }
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) {
        fail_input("{}: __metadata__ \"{}\": expected a string, got {}", where_, printable(key),
                   brief(text));
      }
      metadata_[key] = text.get<std::string>();
    }
  }

  const Json& field(const std::string& name, const Json& tensor, const char* key) const {
    const auto found = tensor.find(key);
    if (found == tensor.end()) reject(name, "expected the field \"{}\", got none", key);
    return *found;
  }

  // Of a list: the numbers, or a message. Floats, negative numbers and strings are no sizes.
  std::vector<uint64_t> numbers(const std::string& name, const char* key, const Json& list) const {
    if (!list.is_array()) reject(name, "{}: expected a list, got {}", key, brief(list));
    std::vector<uint64_t> values;
    for (const Json& item : list) {
      if (!item.is_number_unsigned()) {
        reject(name, "{}: expected whole numbers, got {}", key, brief(item));
      }
      values.push_back(item.get<uint64_t>());
    }
    return values;
  }

  void read_tensor(std::string& name, const Json& tensor) {
    if (name.find('\0') != name.npos) reject(name, "expected a name without NUL");
    if (!tensor.is_object()) reject(name, "expected an object, got {}", brief(tensor));
    const Json& dtype = field(name, tensor, "dtype");
    const std::string dtype_name = dtype.is_string() ? dtype.get<std::string>() : "";
    const Format* format = format_named(dtype_name);
    if (format == nullptr) {
      reject(name, "expected a dtype of the format (F32, BF16, ...), got {}", brief(dtype));
    }

    const std::vector<uint64_t> dims = numbers(name, "shape", field(name, tensor, "shape"));
    if (static_cast<int64_t>(dims.size()) > kTensorDims) {
      reject(name, "shape: expected at most {} dims, got {}", kTensorDims, dims.size());
    }
    int64_t bits = format->bits;
    bool overflow = false;
    for (const uint64_t dim : dims) {
      overflow = overflow || dim > static_cast<uint64_t>(INT64_MAX);
      overflow = overflow || __builtin_mul_overflow(bits, static_cast<int64_t>(dim), &bits);
    }
    if (overflow) {
      reject(name, "shape: expected a size of less than 2^63 bits, got {}", fmt::join(dims, " x "));
    }
    if (bits % 8 != 0) reject(name, "expected whole bytes, got {} bits of {}", bits, dtype_name);

    const std::vector<uint64_t> offsets =
        numbers(name, "data_offsets", field(name, tensor, "data_offsets"));
    if (offsets.size() != 2) {
      reject(name, "data_offsets: expected 2 numbers, got {}", offsets.size());
    }
    const uint64_t begin = offsets[0], end = offsets[1];
    if (begin > end) reject(name, "data_offsets: expected begin <= end, got [{}, {}]", begin, end);
    if (end - begin != static_cast<uint64_t>(bits / 8)) {
      reject(name, "data_offsets: expected {} bytes for {} {}, got {}", bits / 8, dtype_name,
             dims.empty() ? "scalar" : fmt::format("{}", fmt::join(dims, " x ")), end - begin);
    }
    if (found_.size() >= kMaxTensors)
      reject(name, "expected at most {} tensors, got more", kMaxTensors);
    TensorEntry entry;
    entry.name = std::move(name);
    entry.dtype_name = dtype_name;
    entry.dtype = format->dtype;
    entry.shape.assign(dims.begin(), dims.end());
    entry.bytes = bits / 8;
    found_.push_back({std::move(entry), begin, end});
  }

  void check_names() const {
    std::vector<const std::string*> names;
    for (const Found& found : found_) names.push_back(&found.entry.name);
    std::sort(names.begin(), names.end(), [](const auto* a, const auto* b) { return *a < *b; });
    const auto same = [](const auto* a, const auto* b) { return *a == *b; };
    const auto twice = std::adjacent_find(names.begin(), names.end(), same);
    if (twice != names.end()) reject(**twice, "expected each name once, got it twice");
  }

  // The tensors' bytes follow one another from 0 to the end of the file. Also sets `data`.
  void check_layout() {
    std::stable_sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    uint64_t at = 0;
    for (Found& found : found_) {
      if (found.begin != at) {
        reject(found.entry.name, "expected data from byte {} on, got {} ({})", at, found.begin,
               found.begin < at ? "it overlaps the tensor before" : "a hole");
      }
      at = found.end;
      if (at > data_bytes_) {
        reject(found.entry.name,
               "expected data up to byte {} of the data, got a file with {} (cut short: download "
               "it again)",
               at, data_bytes_);
      }
      found.entry.data = data_ + found.begin;
      found.entry.file = file_;
    }
    if (at != data_bytes_) {
      fail_input("{}@{}: expected the end of the file, got {} bytes of no tensor", where_,
                 file_->size() - static_cast<int64_t>(data_bytes_ - at), data_bytes_ - at);
    }
  }

  std::shared_ptr<const MappedFile> file_;
  std::string where_;
  std::map<std::string, std::string>& metadata_;
  bool has_metadata_ = false;
  const std::byte* data_ = nullptr;
  uint64_t data_bytes_ = 0;
  std::vector<Found> found_;
};

void require_finite(const TensorToWrite& tensor, const void* data) {
  const std::optional<DType> dtype = format_of(tensor).dtype;
  if (tensor.any_number || !dtype) return;
  const int64_t index = first_not_finite(data, tensor.elements(), *dtype);
  if (index < 0) return;
  fail(Exit::kNumeric, "tensor \"{}\": element {} would be written as {}{}{}",
       printable(tensor.name), place_text(tensor.shape, index),
       number_text(static_cast<double>(element_of(data, index, *dtype))), tensor.origin ? ": " : "",
       tensor.origin ? tensor.origin(index) : "");
}

void write_bytes(AtomicFile& file, const TensorToWrite& tensor) {
  const int64_t bytes = tensor.bytes();
  if (bytes == 0) return;
  const Tensor made = tensor.data == nullptr ? tensor.make() : Tensor();
  const void* data = tensor.data == nullptr ? made.raw() : tensor.data;
  TENON_CHECK(tensor.data != nullptr || (made.device() == Device::kCPU && made.bytes() == bytes),
              "[write_safetensors] {}: expected {} bytes, got {}", tensor.name, bytes,
              made.bytes());
  require_finite(tensor, data);
  file.write(std::span(static_cast<const std::byte*>(data), static_cast<size_t>(bytes)));
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  std::map<std::string, std::string> metadata;
  std::vector<TensorEntry> entries = HeaderReader(file, metadata).read();
  return SafetensorsFile(file, std::move(entries), std::move(metadata));
}

std::string_view safetensors_name(DType dtype) { return format_of(dtype).name; }

std::optional<DType> dtype_of_format(std::string_view name) {
  const Format* format = format_named(name);
  return format == nullptr ? std::nullopt : format->dtype;
}

int64_t TensorToWrite::elements() const {
  int64_t product = 1;
  for (const int64_t dim : shape) {
    TENON_CHECK(dim >= 0 && !__builtin_mul_overflow(product, dim, &product),
                "[write_safetensors] {}: shape {}", name, fmt::join(shape, " x "));
  }
  return product;
}

int64_t TensorToWrite::bytes() const {
  int64_t bits = format_of(*this).bits;
  TENON_CHECK(!__builtin_mul_overflow(bits, elements(), &bits) && bits % 8 == 0,
              "[write_safetensors] {}: {} of {} bits", name, fmt::join(shape, " x "),
              format_of(*this).bits);
  return bits / 8;
}

WrittenFile write_safetensors(const std::filesystem::path& path,
                              std::span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorToWrite*> order;
  for (const TensorToWrite& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const TensorToWrite* a, const TensorToWrite* b) {
    const Format &fa = format_of(*a), &fb = format_of(*b);
    return &fa != &fb ? &fa > &fb : a->name < b->name;
  });

  const auto quoted = [](const std::string& text) { return Json(text).dump(); };
  std::vector<std::string> members;
  if (!metadata.empty()) members.push_back("\"__metadata__\":" + Json(metadata).dump());
  std::set<std::string_view> names;
  int64_t end = 0;
  for (const TensorToWrite* tensor : order) {
    const int64_t bytes = tensor->bytes();
    TENON_CHECK(names.insert(tensor->name).second && tensor->name != "__metadata__",
                "[write_safetensors] expected distinct names, got {}", tensor->name);
    TENON_CHECK(tensor->data != nullptr || tensor->make || bytes == 0,
                "[write_safetensors] {}: no data", tensor->name);
    members.push_back(fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                                  quoted(tensor->name), format_of(*tensor).name,
                                  fmt::join(tensor->shape, ","), end, end + bytes));
    end += bytes;
  }
  std::string header = fmt::format("{{{}}}", fmt::join(members, ","));
  header.resize((header.size() + 7) / 8 * 8, ' ');
  TENON_CHECK(static_cast<int64_t>(header.size()) <= kSafetensorsHeaderBytes,
              "[write_safetensors] expected a header up to {} bytes, got {}",
              kSafetensorsHeaderBytes, header.size());

  const uint64_t length = header.size();
  AtomicFile file(path, static_cast<int64_t>(sizeof length + length) + end);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (const TensorToWrite* tensor : order) write_bytes(file, *tensor);
  const WrittenFile written{path, file.size(), file.hash()};
  file.commit();
  return written;
}

}  // namespace tenon
