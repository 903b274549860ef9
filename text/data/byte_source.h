// SPDX-License-Identifier: Apache-2.0
// The bytes of a data file from front to back: as they are, or unpacked where the name ends in .gz
// (RFC 1952, members one behind the other included) or .zst (RFC 8878). Memory is bounded, whatever
// the file's size and whatever it unpacks to.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tenon {

// What a data file is, by its name: "a.jsonl.gz" is {".jsonl", ".gz"}.
struct DataFileName {
  std::string kind;         // the extension that says what the bytes are; "" where there is none
  std::string compression;  // ".gz", ".zst" or ""
};
DataFileName data_file_name(const std::filesystem::path& path);

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills the front of `out` and returns how much of it; 0 at the end only. Requires: out is not
  // empty. Throws Error(kInput) with the byte of the packed file where it is damaged or cut off.
  virtual size_t read(std::span<char> out) = 0;
};

// Throws Error(kInput) for a file that is missing or cannot be read. `begin`: bytes passed over at
// the front. Requires: begin is 0 where the file is packed.
std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& path, int64_t begin = 0);

// A window that moves over a source: what was read and not yet dropped lies in one piece.
class ByteWindow {
 public:
  explicit ByteWindow(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

  std::string_view view() const { return std::string_view(buffer_).substr(begin_, end_ - begin_); }
  // Reads more behind what is there; false at the end of the source.
  bool more();
  // Reads on until the window holds `bytes`, or all that is left: then false.
  bool reach(size_t bytes);
  void drop(size_t bytes);

  // The byte at the front, or -1 at the end; take() drops it too.
  int peek() { return begin_ < end_ || more() ? static_cast<unsigned char>(buffer_[begin_]) : -1; }
  int take() {
    const int byte = peek();
    if (byte >= 0) drop(1);
    return byte;
  }

  int64_t offset() const { return offset_; }  // bytes dropped so far

 private:
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  size_t begin_ = 0, end_ = 0;  // the window in the buffer
  int64_t offset_ = 0;
};

// A window over a file of text; a byte order mark is dropped. Throws Error(kInput) for an empty file
// and for what is no UTF-8 text by its first bytes.
ByteWindow open_text(const std::filesystem::path& path);

}  // namespace tenon
