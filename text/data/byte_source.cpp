// SPDX-License-Identifier: Apache-2.0
#include "text/data/byte_source.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/file.h"

namespace tenon {
namespace {

constexpr size_t kStep = size_t{1} << 18;  // bytes of a file that are looked at in one go

// Reads a mapped file in steps and lets the system take back what lies behind.
class PlainSource : public ByteSource {
 public:
  PlainSource(std::shared_ptr<const MappedFile> file, int64_t begin)
      : file_(std::move(file)), at_(std::min(begin, file_->size())) {}

  size_t read(std::span<char> out) override {
    const std::string_view rest = file_->text().substr(static_cast<size_t>(at_));
    const size_t count = std::min(rest.size(), out.size());
    std::memcpy(out.data(), rest.data(), count);
    file_->advise_done(at_, static_cast<int64_t>(count));
    at_ += static_cast<int64_t>(count);
    return count;
  }

 private:
  std::shared_ptr<const MappedFile> file_;
  int64_t at_;
};

// What both kinds of packed files share: the packed bytes, and how far they are read.
class PackedSource : public ByteSource {
 public:
  PackedSource(std::shared_ptr<const MappedFile> file, const char* kind)
      : file_(std::move(file)), kind_(kind) {
    if (file_->size() == 0) fail_input("{}: expected {} data, got an empty file", name(), kind_);
  }

 protected:
  std::string name() const { return shown(file_->path()); }
  std::string_view next_step() const {
    return file_->text().substr(static_cast<size_t>(at_), kStep);
  }
  bool at_end() const { return at_ == file_->size(); }
  void advance(size_t bytes) {
    file_->advise_done(at_, static_cast<int64_t>(bytes));
    at_ += static_cast<int64_t>(bytes);
  }
  [[noreturn]] void reject(const char* what) const {
    fail_input("{}: byte {}: invalid {} data: {}", name(), at_, kind_, what);
  }
  [[noreturn]] void reject_end() const {
    fail_input("{}: byte {}: expected more {} data, got the end of the file (is it cut off?)",
               name(), at_, kind_);
  }

 private:
  std::shared_ptr<const MappedFile> file_;
  const char* kind_;
  int64_t at_ = 0;
};

class GzipSource : public PackedSource {
 public:
  explicit GzipSource(std::shared_ptr<const MappedFile> file)
      : PackedSource(std::move(file), "gzip") {
    constexpr int kGzipOnly = 16;  // added to the window's size
    if (inflateInit2(&stream_, MAX_WBITS + kGzipOnly) != Z_OK) {
      fail(Exit::kMemory, "{}: no memory to unpack it", name());
    }
  }
  ~GzipSource() override { inflateEnd(&stream_); }

  size_t read(std::span<char> out) override {
    for (;;) {
      if (at_end() && !inside_) return 0;
      inside_ = true;
      const std::string_view in = next_step();
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
      stream_.avail_in = static_cast<uInt>(in.size());
      stream_.next_out = reinterpret_cast<Bytef*>(out.data());
      stream_.avail_out = static_cast<uInt>(std::min(out.size(), kStep));
      const uInt room = stream_.avail_out;
      const int code = inflate(&stream_, Z_NO_FLUSH);
      const size_t taken = in.size() - stream_.avail_in, made = room - stream_.avail_out;
      advance(taken);
      if (code == Z_STREAM_END) {  // of a member; another may follow
        inside_ = false;
        inflateReset(&stream_);
      } else if (code == Z_MEM_ERROR) {
        fail(Exit::kMemory, "{}: no memory to unpack it", name());
      } else if (code != Z_OK && code != Z_BUF_ERROR) {
        reject(stream_.msg != nullptr ? stream_.msg : "it asks for a dictionary");
      } else if (taken == 0 && made == 0) {
        reject_end();
      }
      if (made > 0) return made;
    }
  }

 private:
  z_stream stream_ = {};
  bool inside_ = false;  // a member
};

class ZstdSource : public PackedSource {
 public:
  explicit ZstdSource(std::shared_ptr<const MappedFile> file)
      : PackedSource(std::move(file), "Zstandard"), stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) fail(Exit::kMemory, "{}: no memory to unpack it", name());
  }
  ~ZstdSource() override { ZSTD_freeDStream(stream_); }

  size_t read(std::span<char> out) override {
    for (;;) {
      const std::string_view step = next_step();
      ZSTD_inBuffer in = {step.data(), step.size(), 0};
      ZSTD_outBuffer room = {out.data(), out.size(), 0};
      if (at_end() && !inside_) return 0;
      const size_t left = ZSTD_decompressStream(stream_, &room, &in);
      if (ZSTD_isError(left)) reject(ZSTD_getErrorName(left));
      advance(in.pos);
      inside_ = left != 0;
      if (room.pos > 0) return room.pos;
      if (inside_ && in.pos == 0 && at_end()) reject_end();
    }
  }

 private:
  ZSTD_DStream* stream_;
  bool inside_ = true;  // a frame
};

}  // namespace

DataFileName data_file_name(const std::filesystem::path& path) {
  const std::string last = path.extension().string();
  if (last != ".gz" && last != ".zst") return {last, ""};
  return {path.stem().extension().string(), last};
}

std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& path, int64_t begin) {
  auto file = MappedFile::open(path);
  file->advise_sequential();
  const std::string compression = data_file_name(path).compression;
  TENON_CHECK(compression.empty() || begin == 0, "[open_bytes] a packed file begins at its front");
  if (compression == ".gz") return std::make_unique<GzipSource>(std::move(file));
  if (compression == ".zst") return std::make_unique<ZstdSource>(std::move(file));
  return std::make_unique<PlainSource>(std::move(file), begin);
}

bool ByteWindow::more() {
  const size_t held = end_ - begin_;
  if (begin_ > 0 && begin_ >= held) {  // what is moved is less than what was dropped
    std::memmove(buffer_.data(), buffer_.data() + begin_, held);
    begin_ = 0;
    end_ = held;
  }
  if (buffer_.size() - end_ < kStep) buffer_.resize(std::max(2 * buffer_.size(), end_ + kStep));
  const size_t count = source_->read(std::span(buffer_).subspan(end_, kStep));
  end_ += count;
  return count > 0;
}

bool ByteWindow::reach(size_t bytes) {
  while (end_ - begin_ < bytes) {
    if (!more()) return false;
  }
  return true;
}

void ByteWindow::drop(size_t bytes) {
  begin_ += bytes;
  offset_ += static_cast<int64_t>(bytes);
}

ByteWindow open_text(const std::filesystem::path& path) {
  ByteWindow window(open_bytes(path));
  window.reach(16);
  const std::string_view text = window.view();
  if (text.empty()) fail_input("{}: expected text, got an empty file", shown(path));
  static const std::pair<std::string_view, const char*> kOthers[] = {
      {{"\xFF\xFE\0\0", 4}, "UTF-32"},
      {{"\0\0\xFE\xFF", 4}, "UTF-32"},
      {"\xFF\xFE", "UTF-16"},
      {"\xFE\xFF", "UTF-16"},
      {"\x1F\x8B", "gzip"},
      {"PK\x03\x04", "a zip"},
      {"PAR1", "Parquet"},
      {"\x28\xB5\x2F\xFD", "Zstandard"},
      {"\xFD"
       "7zXZ",
       "xz"},
      {"\x89PNG", "PNG"},
      {"\xFF\xD8\xFF", "JPEG"},
      {"%PDF-", "PDF"},
      {"GGUF", "GGUF"},
      {"\x89HDF", "HDF5"},
      {"\x93NUMPY", "NumPy's format"},
      {"\x80\x02", "a pickle"},
      {"\x80\x03", "a pickle"},
      {"\x80\x04", "a pickle"},
      {"\x80\x05", "a pickle"}};
  if (text.size() >= 10 && text.substr(5, 5) == std::string_view("\0\0\0{\"", 5)) {
    fail_input("{}: expected UTF-8 text, got safetensors (by its first bytes)", shown(path));
  }
  for (const auto& [magic, kind] : kOthers) {
    if (!text.starts_with(magic)) continue;
    fail_input("{}: expected UTF-8 text, got {} (by its first bytes)", shown(path), kind);
  }
  if (text.starts_with("\xEF\xBB\xBF")) window.drop(3);
  return window;
}

}  // namespace tenon
