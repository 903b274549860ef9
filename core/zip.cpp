// SPDX-License-Identifier: Apache-2.0
#include "core/zip.h"

#include <cstring>
#include <string>

#include "core/error.h"

namespace tenon {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kDirectoryEntry = 0x02014b50, kEnd = 0x06054b50,
                   kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr size_t kLocalBytes = 30, kEntryBytes = 46, kEndBytes = 22, kEnd64Bytes = 56,
                 kLocatorBytes = 20, kMaxComment = 65535;
constexpr uint16_t kEncrypted = 1;

// Little-endian fields of a text, which its caller has checked to be long enough.
template <class T>
T field(std::string_view text, size_t at) {
  T value;
  std::memcpy(&value, text.data() + at, sizeof value);
  return value;
}

bool has(std::string_view text, uint64_t at, uint64_t bytes) {
  return at <= text.size() && bytes <= text.size() - at;
}

bool is_at(std::string_view text, uint64_t at, uint32_t signature, size_t bytes) {
  return has(text, at, bytes) && field<uint32_t>(text, at) == signature;
}

// Where the record at the archive's end begins: it is found from behind, before a comment.
size_t find_end(std::string_view text, const std::string& where) {
  for (size_t comment = 0; comment <= kMaxComment && comment + kEndBytes <= text.size();
       ++comment) {
    const size_t at = text.size() - kEndBytes - comment;
    if (field<uint32_t>(text, at) == kEnd && field<uint16_t>(text, at + 20) == comment) return at;
  }
  fail_input("{}: expected a zip archive's directory at the end, got none (the file is cut short)",
             where);
}

struct Directory {
  uint64_t offset, bytes, members;
};

Directory find_directory(std::string_view text, const std::string& where) {
  const size_t end = find_end(text, where);
  Directory found = {field<uint32_t>(text, end + 16), field<uint32_t>(text, end + 12),
                     field<uint16_t>(text, end + 10)};
  if (end >= kLocatorBytes && is_at(text, end - kLocatorBytes, kLocator64, kLocatorBytes)) {
    const auto at = field<uint64_t>(text, end - kLocatorBytes + 8);
    if (!is_at(text, at, kEnd64, kEnd64Bytes)) {
      fail_input("{}@{}: expected the place of the zip archive's 64-bit end, got {}", where,
                 end - kLocatorBytes, at);
    }
    found = {field<uint64_t>(text, at + 48), field<uint64_t>(text, at + 40),
             field<uint64_t>(text, at + 32)};
  }
  if (!has(text.substr(0, end), found.offset, found.bytes)) {
    fail_input("{}@{}: expected a zip directory within {} bytes, got {} bytes from {} on", where,
               end, end, found.bytes, found.offset);
  }
  return found;
}

// The sizes and the place of a member; the 64-bit ones lie in an extra field, in this order, where
// the 32-bit ones are all ones.
struct Extent {
  uint64_t bytes, stored, offset;
};

Extent extent_of(std::string_view entry, std::string_view extra) {
  Extent extent = {field<uint32_t>(entry, 24), field<uint32_t>(entry, 20),
                   field<uint32_t>(entry, 42)};
  while (extra.size() >= 4) {
    const size_t bytes = std::min<size_t>(field<uint16_t>(extra, 2), extra.size() - 4);
    std::string_view values = extra.substr(4, bytes);
    if (field<uint16_t>(extra, 0) == 1) {
      for (uint64_t* value : {&extent.bytes, &extent.stored, &extent.offset}) {
        if (*value != UINT32_MAX || values.size() < 8) continue;
        *value = field<uint64_t>(values, 0);
        values.remove_prefix(8);
      }
    }
    extra.remove_prefix(4 + bytes);
  }
  return extent;
}

}  // namespace

ZipArchive::ZipArchive(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {
  const std::string where = shown(file_->path());
  const Directory directory = find_directory(file_->text(), where);
  size_t at = directory.offset;
  for (uint64_t i = 0; i < directory.members; ++i)
    add_member(at, directory.offset + directory.bytes);
  for (size_t i = 0; i < members_.size(); ++i) {
    if (index_.emplace(members_[i].name, i).second) continue;
    fail_input("{}: member \"{}\": expected each name once, got it twice", where,
               printable(members_[i].name));
  }
}

void ZipArchive::add_member(size_t& at, size_t end) {
  const std::string where = shown(file_->path());
  const std::string_view text = file_->text(), directory = text.substr(0, end);
  if (!is_at(directory, at, kDirectoryEntry, kEntryBytes)) {
    fail_input("{}@{}: expected an entry of the zip directory, got something else", where, at);
  }
  const std::string_view entry = text.substr(at, kEntryBytes);
  const size_t name_bytes = field<uint16_t>(entry, 28), extra_bytes = field<uint16_t>(entry, 30);
  const size_t all = kEntryBytes + name_bytes + extra_bytes + field<uint16_t>(entry, 32);
  if (!has(directory, at, all)) {
    fail_input("{}@{}: expected {} bytes for an entry of the zip directory, got {}", where, at, all,
               end - at);
  }
  const std::string_view name = text.substr(at + kEntryBytes, name_bytes);
  const Extent extent = extent_of(entry, text.substr(at + kEntryBytes + name_bytes, extra_bytes));
  const auto method = field<uint16_t>(entry, 10);
  if (method != 0 || extent.bytes != extent.stored ||
      (field<uint16_t>(entry, 8) & kEncrypted) != 0) {
    fail_input(
        "{}: member \"{}\": expected it stored as it is, got it compressed or encrypted (zip "
        "method {}): save it again with torch.save",
        where, printable(name), method);
  }
  if (!is_at(text, extent.offset, kLocalHeader, kLocalBytes)) {
    fail_input("{}@{}: member \"{}\": expected its header at byte {}, got something else", where,
               at, printable(name), extent.offset);
  }
  // The name and the extra field of the local header have lengths of their own.
  const uint64_t begin = extent.offset + kLocalBytes + field<uint16_t>(text, extent.offset + 26) +
                         field<uint16_t>(text, extent.offset + 28);
  if (!has(text, begin, extent.bytes)) {
    fail_input("{}@{}: member \"{}\": expected {} bytes from {} on, got a file of {}", where, at,
               printable(name), extent.bytes, begin, text.size());
  }
  members_.push_back({name, file_->bytes().subspan(begin, extent.bytes)});
  at += all;
}

const ZipMember* ZipArchive::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &members_[found->second];
}

}  // namespace tenon
