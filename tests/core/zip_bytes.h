// SPDX-License-Identifier: Apache-2.0
// Zip archives and pickles made by hand, so that they may break their formats.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace tenon::test {

// An integer of n bytes, little-endian.
inline std::string le(uint64_t value, size_t bytes) {
  std::string text(bytes, '\0');
  std::memcpy(text.data(), &value, bytes);
  return text;
}

struct Member {
  std::string name, bytes;
  uint16_t method = 0, flags = 0;
};

// A zip archive of these members; with `zip64`, all sizes and places are in the 64-bit fields.
inline std::string zip_of(const std::vector<Member>& members, bool zip64 = false,
                          std::string_view comment = "") {
  std::string file, directory;
  for (const Member& member : members) {
    const uint64_t at = file.size(), size = member.bytes.size();
    const std::string wide = le(1, 2) + le(24, 2) + le(size, 8) + le(size, 8) + le(at, 8);
    const std::string odd = le(0x4246, 2) + le(3, 2) + "pad";  // fields of others are passed over
    const std::string extra = zip64 ? odd + wide : odd;
    const std::string sizes = zip64 ? std::string(8, '\xff') : le(size, 4) + le(size, 4);
    const std::string start =
        le(45, 2) + le(member.flags, 2) + le(member.method, 2) + le(0, 4) + le(0, 4);
    file += "PK\x03\x04" + start + le(0, 8) + le(member.name.size(), 2) + le(5, 2) + member.name +
            std::string("\0\0\1\0x", 5) + member.bytes;
    directory += "PK\x01\x02" + le(45, 2) + start + sizes + le(member.name.size(), 2) +
                 le(extra.size(), 2) + le(0, 2) + le(0, 8) +
                 (zip64 ? std::string(4, '\xff') : le(at, 4)) + member.name + extra;
  }
  const uint64_t at = file.size(), count = members.size(), size = directory.size();
  file += directory;
  if (zip64) {
    const uint64_t end = file.size();
    file += "PK\x06\x06" + le(44, 8) + le(45, 2) + le(45, 2) + le(0, 8) + le(count, 8) +
            le(count, 8) + le(size, 8) + le(at, 8);
    file += "PK\x06\x07" + le(0, 4) + le(end, 8) + le(1, 4);
  }
  file += "PK\x05\x06" + le(0, 4);
  file += zip64 ? std::string(12, '\xff') : le(count, 2) + le(count, 2) + le(size, 4) + le(at, 4);
  return file + le(comment.size(), 2) + std::string(comment);
}

// Pieces of a pickle.
inline std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}
inline std::string text(std::string_view value) {
  return "X" + le(value.size(), 4) + std::string(value);
}
inline std::string integer(int64_t value) {
  return "\x8a\x08" + le(static_cast<uint64_t>(value), 8);
}
inline std::string tuple(const std::vector<int64_t>& values) {
  std::string all = "(";
  for (const int64_t value : values) all += integer(value);
  return all + "t";
}
inline std::string storage(std::string_view type, std::string_view key, int64_t elements) {
  return "(" + text("storage") + global("torch", type) + text(key) + text("cpu") +
         integer(elements) + "tQ";
}
inline std::string torch_tensor(const std::string& stored, int64_t offset,
                                const std::vector<int64_t>& shape,
                                const std::vector<int64_t>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") + "(" + stored + integer(offset) +
         tuple(shape) + tuple(strides) + "\x89" + global("collections", "OrderedDict") + ")RtR";
}
inline std::string dict(std::string_view members) {
  return "\x80\x02}(" + std::string(members) + "u.";
}

// A checkpoint of this pickle with one storage of bytes, "0".
inline std::string torch_file(const std::string& pickle, std::string_view bytes = "") {
  return zip_of({{"m/data.pkl", pickle}, {"m/data/0", std::string(bytes)}, {"m/version", "3\n"}});
}

}  // namespace tenon::test
