// SPDX-License-Identifier: Apache-2.0
// A zip archive whose members are stored, not compressed, so that they can be read where they lie in
// the file (PKWARE's APPNOTE, with the 64-bit fields of its section 4.5.3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/file.h"

namespace tenon {

struct ZipMember {
  std::string_view name;             // in the mapping
  std::span<const std::byte> bytes;  // in the mapping
};

class ZipArchive {
 public:
  // Throws Error(kInput) where a member is compressed or encrypted, or does not lie within the file.
  // Checksums are not looked at: that would read all of a large file.
  explicit ZipArchive(std::shared_ptr<const MappedFile> file);

  const std::vector<ZipMember>& members() const { return members_; }
  const ZipMember* find(std::string_view name) const;  // nullptr when there is none

 private:
  void add_member(size_t& at, size_t end);

  std::shared_ptr<const MappedFile> file_;
  std::vector<ZipMember> members_;
  std::unordered_map<std::string_view, size_t> index_;
};

}  // namespace tenon
