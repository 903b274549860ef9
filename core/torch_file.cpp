// SPDX-License-Identifier: Apache-2.0
#include "core/torch_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <deque>
#include <map>
#include <numeric>
#include <tuple>
#include <unordered_set>

#include "core/error.h"
#include "core/pickle.h"
#include "core/safetensors.h"
#include "core/utf8.h"
#include "core/zip.h"

namespace tenon {
namespace {

constexpr std::string_view kTensor = "torch._utils._rebuild_tensor_v2",
                           kParameter = "torch._utils._rebuild_parameter";

struct StorageType {
  std::string_view global;
  std::string_view format;  // as safetensors names it
  int64_t element_bytes;
};
constexpr std::array<StorageType, 10> kStorageTypes = {{
    {"torch.FloatStorage", "F32", 4},
    {"torch.HalfStorage", "F16", 2},
    {"torch.BFloat16Storage", "BF16", 2},
    {"torch.DoubleStorage", "F64", 8},
    {"torch.LongStorage", "I64", 8},
    {"torch.IntStorage", "I32", 4},
    {"torch.ShortStorage", "I16", 2},
    {"torch.CharStorage", "I8", 1},
    {"torch.ByteStorage", "U8", 1},
    {"torch.BoolStorage", "BOOL", 1},
}};

std::vector<std::string_view> allowed_globals() {
  std::vector<std::string_view> names = {kTensor, kParameter};
  for (const StorageType& type : kStorageTypes) names.push_back(type.global);
  return names;
}

struct StorageBytes {
  const StorageType* type;
  std::span<const std::byte> bytes;
};

// Places in a storage, in elements.
struct View {
  std::vector<int64_t> shape, strides;
  int64_t offset = 0, elements = 1;

  bool contiguous() const {
    int64_t expected = 1;
    for (size_t axis = shape.size(); axis-- > 0;) {
      if (shape[axis] != 1 && strides[axis] != expected) return false;
      expected *= shape[axis];
    }
    return true;
  }
};

// Copies a view row-major. Requires: the view has elements and lies in `from`.
template <class From, class To = From>
void copy_view(const std::byte* from, const View& view, std::byte* to) {
  std::vector<int64_t> at(view.shape.size(), 0);
  int64_t place = view.offset;
  for (int64_t i = 0; i < view.elements; ++i) {
    From value;
    std::memcpy(&value, from + place * static_cast<int64_t>(sizeof value), sizeof value);
    const To out = static_cast<To>(value);
    std::memcpy(to + i * static_cast<int64_t>(sizeof out), &out, sizeof out);
    for (size_t axis = view.shape.size(); axis-- > 0;) {
      place += view.strides[axis];
      if (++at[axis] < view.shape[axis]) break;
      place -= view.strides[axis] * view.shape[axis];
      at[axis] = 0;
    }
  }
}

// Reads one file's pickle into entries.
class TorchReader {
 public:
  explicit TorchReader(std::shared_ptr<const MappedFile> file)
      : kept_(std::make_shared<Kept>()),
        where_(shown(file->path())),
        zip_(file),
        member_(find_pickle()),
        base_(member_.bytes.data() - file->data()),
        pickle_(member_.bytes, allowed_globals(), where_, base_) {
    kept_->file = std::move(file);
  }

  TensorFile read() {
    const PickleValue& root = pickle_.root();
    if (root.kind != PickleKind::kDict)
      reject(root, "a dict of tensors, got {}", name_of(root.kind));
    std::vector<TensorEntry> entries;
    std::unordered_set<std::string_view> names;
    for (size_t i = 0; i < root.items.size(); i += 2) {
      const PickleValue& name = pickle_[root.items[i]];
      if (name.kind != PickleKind::kText) {
        reject(name, "the name of a tensor, got {}", name_of(name.kind));
      }
      if (!names.insert(name.text).second) {
        reject(name, "each name once, got \"{}\" twice", printable(name.text));
      }
      if (!is_utf8(name.text) || name.text.find('\0') != name.text.npos ||
          name.text == "__metadata__") {
        reject(name, "a name of UTF-8 text without NUL, got \"{}\"", printable(name.text));
      }
      name_ = name.text;
      entries.push_back(read_entry(pickle_[root.items[i + 1]]));
    }
    return TensorFile(kept_->file, std::move(entries));
  }

 private:
  // What entries look at: the mapping, and copies of what does not lie in it as it should.
  struct Kept {
    std::shared_ptr<const MappedFile> file;
    std::deque<std::vector<std::byte>> copies;
    int64_t copied = 0;
  };

  template <class... Args>
  [[noreturn]] void reject(const PickleValue& value, fmt::format_string<Args...> expected,
                           Args&&... args) const {
    const std::string tensor = name_.empty() ? "" : fmt::format(" tensor \"{}\"", printable(name_));
    fail_input("{}@{}{}: expected {}", where_, base_ + value.byte, tensor,
               fmt::format(expected, std::forward<Args>(args)...));
  }

  // The archive's folder has the name that the file was saved under.
  ZipMember find_pickle() {
    for (const ZipMember& member : zip_.members()) {
      const size_t slash = member.name.find('/');
      if (slash == member.name.npos || member.name.substr(slash) != "/data.pkl") continue;
      folder_ = member.name.substr(0, slash);
      const ZipMember* order = zip_.find(fmt::format("{}/byteorder", folder_));
      if (order != nullptr && !order->bytes.empty() && order->bytes[0] == std::byte{'b'}) {
        fail_input("{}: expected little-endian tensors, got big-endian ones", where_);
      }
      return member;
    }
    fail_input("{}: expected a member data.pkl, as torch.save writes it, got a zip archive of {}",
               where_, zip_.members().size());
  }

  const PickleValue& item(const PickleValue& value, size_t i, PickleKind kind,
                          std::string_view what) const {
    const PickleValue& found = pickle_[value.items[i]];
    if (found.kind != kind) reject(found, "{}, got {}", what, name_of(found.kind));
    return found;
  }

  TensorEntry read_entry(const PickleValue& value) {
    // The arguments of a call are made before it, so that this ends.
    const PickleValue* tensor = &value;
    while (tensor->kind == PickleKind::kCall && tensor->text == kParameter &&
           !tensor->items.empty()) {
      tensor = &pickle_[tensor->items[0]];
    }
    if (tensor->kind != PickleKind::kCall || tensor->text != kTensor) {
      reject(value, "a tensor, got {}", name_of(tensor->kind));
    }
    if (tensor->items.size() < 4) {
      reject(*tensor, "a tensor's storage, offset, shape and strides, got {} values",
             tensor->items.size());
    }
    const StorageBytes storage =
        read_storage(item(*tensor, 0, PickleKind::kPersistent, "a tensor's storage"));
    return make_entry(*tensor, storage, read_view(*tensor, storage));
  }

  // ('storage', type, key, device, elements)
  StorageBytes read_storage(const PickleValue& value) const {
    const PickleValue& id = item(value, 0, PickleKind::kTuple, "what a storage is in a tuple");
    if (id.items.size() != 5) {
      reject(id, "a storage's type, key, device and size, got {} values", id.items.size());
    }
    const std::string_view global = item(id, 1, PickleKind::kGlobal, "a storage's type").text;
    const auto type =
        std::find_if(kStorageTypes.begin(), kStorageTypes.end(),
                     [&](const StorageType& known) { return known.global == global; });
    if (type == kStorageTypes.end()) reject(id, "a storage's type, got {}", global);
    const std::string_view key = item(id, 2, PickleKind::kText, "a storage's key").text;
    const int64_t elements = item(id, 4, PickleKind::kInteger, "a storage's size").integer;
    const ZipMember* member = zip_.find(fmt::format("{}/data/{}", folder_, key));
    if (member == nullptr) {
      reject(id, "a member data/{} with the bytes of a storage, got none", printable(key));
    }
    if (static_cast<int64_t>(member->bytes.size()) / type->element_bytes != elements) {
      reject(id, "{} elements of {} in data/{}, got {} bytes", elements, type->format,
             printable(key), member->bytes.size());
    }
    return {&*type, member->bytes};
  }

  std::vector<int64_t> numbers(const PickleValue& tensor, size_t i, const char* what) const {
    const PickleValue& tuple = item(tensor, i, PickleKind::kTuple, what);
    std::vector<int64_t> values;
    for (size_t k = 0; k < tuple.items.size(); ++k) {
      const PickleValue& value = item(tuple, k, PickleKind::kInteger, what);
      if (value.integer < 0) reject(value, "{} of 0 or more, got {}", what, value.integer);
      values.push_back(value.integer);
    }
    return values;
  }

  // All of the view lies in its storage.
  View read_view(const PickleValue& tensor, const StorageBytes& storage) const {
    View view{.shape = numbers(tensor, 2, "a shape"), .strides = numbers(tensor, 3, "strides")};
    view.offset = item(tensor, 1, PickleKind::kInteger, "an offset").integer;
    if (static_cast<int64_t>(view.shape.size()) > kTensorDims ||
        view.shape.size() != view.strides.size()) {
      reject(tensor, "a shape of at most {} dims and as many strides, got {} and {}", kTensorDims,
             view.shape.size(), view.strides.size());
    }
    int64_t last = view.offset, bytes = storage.type->element_bytes;
    bool overflow = view.offset < 0;
    for (size_t axis = 0; axis < view.shape.size(); ++axis) {
      int64_t step = 0;
      overflow |= __builtin_mul_overflow(bytes, view.shape[axis], &bytes) ||
                  __builtin_mul_overflow(view.shape[axis] - 1, view.strides[axis], &step) ||
                  __builtin_add_overflow(last, step, &last);
    }
    const auto elements = static_cast<int64_t>(storage.bytes.size()) / storage.type->element_bytes;
    const bool empty = std::find(view.shape.begin(), view.shape.end(), 0) != view.shape.end();
    if (overflow || (!empty && last >= elements)) {
      reject(tensor, "a view of {} elements, got offset {}, shape [{}], strides [{}]", elements,
             view.offset, fmt::join(view.shape, ", "), fmt::join(view.strides, ", "));
    }
    view.elements = bytes / storage.type->element_bytes;
    return view;
  }

  TensorEntry make_entry(const PickleValue& tensor, const StorageBytes& storage, const View& view) {
    const bool fp64 = storage.type->format == "F64";
    TensorEntry entry;
    entry.name = name_;
    entry.dtype_name = fp64 ? "F32" : storage.type->format;
    entry.dtype = dtype_of_format(entry.dtype_name);
    entry.shape = view.shape;
    entry.bytes = view.elements * (fp64 ? 4 : storage.type->element_bytes);
    entry.file = std::shared_ptr<const MappedFile>(kept_, kept_->file.get());
    if (view.elements == 0) {
      entry.data = storage.bytes.data();
    } else if (!fp64 && view.contiguous()) {
      entry.data = storage.bytes.data() + view.offset * storage.type->element_bytes;
    } else {
      entry.data = copy(tensor, storage, view, entry.bytes);
    }
    return entry;
  }

  // Views that are the same share their copy.
  const std::byte* copy(const PickleValue& tensor, const StorageBytes& storage, const View& view,
                        int64_t bytes) {
    const auto [found, fresh] =
        copies_.try_emplace({storage.bytes.data(), view.offset, view.shape, view.strides}, nullptr);
    if (!fresh) return found->second;
    kept_->copied += bytes;
    if (kept_->copied > kept_->file->size()) {
      reject(tensor, "tensors that lie in the file, got views that repeat its {} bytes",
             kept_->file->size());
    }
    std::byte* to = kept_->copies.emplace_back(static_cast<size_t>(bytes)).data();
    switch (storage.type->element_bytes) {
      case 1: copy_view<uint8_t>(storage.bytes.data(), view, to); break;
      case 2: copy_view<uint16_t>(storage.bytes.data(), view, to); break;
      case 4: copy_view<uint32_t>(storage.bytes.data(), view, to); break;
      default:
        storage.type->format == "F64" ? copy_view<double, float>(storage.bytes.data(), view, to)
                                      : copy_view<uint64_t>(storage.bytes.data(), view, to);
    }
    kept_->file->advise_done(storage.bytes.data() - kept_->file->data(),
                             static_cast<int64_t>(storage.bytes.size()));
    return found->second = to;
  }

  using ViewKey = std::tuple<const std::byte*, int64_t, std::vector<int64_t>, std::vector<int64_t>>;

  std::shared_ptr<Kept> kept_;
  std::string where_;
  ZipArchive zip_;
  std::string_view folder_;  // of the archive's members
  ZipMember member_;         // data.pkl
  int64_t base_;             // where it begins in the file
  Pickle pickle_;
  std::string_view name_;  // of the tensor in hand, for messages
  std::map<ViewKey, const std::byte*> copies_;
};

}  // namespace

TensorFile read_torch_file(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  if (!file->text().starts_with("PK\x03\x04")) {
    const std::string_view kind = kind_of_content(file->text());
    fail_input("{}: expected a PyTorch file (a zip archive), got {}", shown(path),
               kind.empty() ? "something else" : kind);
  }
  return TorchReader(std::move(file)).read();
}

}  // namespace tenon
