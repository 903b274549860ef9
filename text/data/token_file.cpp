// SPDX-License-Identifier: Apache-2.0
#include "text/data/token_file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/error.h"

namespace tenon {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are mapped as they are");

constexpr char kMagic[8] = {'T', 'E', 'N', 'O', 'N', 'T', 'O', 'K'};
constexpr size_t kBufferBytes = 1 << 20;
constexpr uint32_t kVersion = 2;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t id_bytes;
  TokenFileKey key;
  uint64_t reserved[3];
};
struct Footer {
  int64_t tokens, documents, unscored_spans, largest_id;
  uint32_t special_tokens, reserved;
  int64_t skipped_records;
  uint64_t hash;  // of all before the footer and of the footer's fields above
  char magic[8];
};
static_assert(sizeof(Header) == 64 && sizeof(Footer) == 64);
static_assert(sizeof(TokenSpan) == 16 && sizeof(SpecialCount) == 16);

int64_t padded(int64_t bytes) { return (bytes + 7) / 8 * 8; }

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

uint64_t footer_hash(uint64_t content, const Footer& footer) {
  return XXH3_64bits_withSeed(&footer, offsetof(Footer, hash), content);
}

}  // namespace

// ------------------------------------------------------------------------------------ reading

bool is_token_file(const std::filesystem::path& path) {
  return MappedFile::open(path)->text().starts_with(std::string_view(kMagic, sizeof kMagic));
}

TokenFile TokenFile::open(const std::filesystem::path& path) {
  TokenFile file;
  file.mapping_ = MappedFile::open(path);
  const MappedFile& mapping = *file.mapping_;
  const std::string name = shown(path);
  const auto whole = static_cast<int64_t>(sizeof(Header) + sizeof(Footer));
  if (mapping.size() < whole) {
    fail_input("{}: expected a token file of at least {} bytes, got {}", name, whole,
               mapping.size());
  }
  Header header;
  Footer footer;
  const int64_t footer_at = mapping.size() - static_cast<int64_t>(sizeof footer);
  std::memcpy(&header, mapping.data(), sizeof header);
  std::memcpy(&footer, mapping.data() + footer_at, sizeof footer);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) {
    fail_input("{}: expected a token file (\"TENONTOK\" at byte 0), got \"{}\"", name,
               printable({header.magic, sizeof header.magic}));
  }
  if (header.version != kVersion) {
    fail_input("{}: expected token file version {}, got {}", name, kVersion, header.version);
  }
  if (std::memcmp(footer.magic, kMagic, sizeof kMagic) != 0) {
    fail_input("{}: expected the end of a token file at byte {}, got other bytes (is it cut off?)",
               name, footer_at);
  }
  if (footer_hash(XXH3_64bits(mapping.data(), static_cast<size_t>(footer_at)), footer) !=
      footer.hash) {
    fail_input("{}: expected the checksum {:016x}, got another (the file is damaged)", name,
               footer.hash);
  }
  // From here on the file is as it was written; the sizes are checked all the same before anything
  // is mapped by them.
  const bool sane = (header.id_bytes == 2 || header.id_bytes == 4) && footer.tokens >= 0 &&
                    footer.tokens <= mapping.size() && footer.documents >= 0 &&
                    footer.documents <= mapping.size() && footer.unscored_spans >= 0 &&
                    footer.unscored_spans <= mapping.size() &&
                    footer.special_tokens <= mapping.size();
  const int64_t ids_bytes = sane ? padded(footer.tokens * header.id_bytes) : 0;
  const int64_t bounds_bytes = sane ? (footer.documents + 1) * 8 : 0,
                spans_bytes = sane ? footer.unscored_spans * 16 : 0,
                special_bytes = sane ? int64_t{footer.special_tokens} * 16 : 0;
  const int64_t expected = whole + ids_bytes + bounds_bytes + spans_bytes + special_bytes;
  if (!sane || expected != mapping.size()) {
    fail_input("{}: expected {} bytes by the counts at the end, got {}", name, expected,
               mapping.size());
  }

  file.key_ = header.key;
  file.id_bytes_ = static_cast<int>(header.id_bytes);
  file.tokens_ = footer.tokens;
  file.largest_id_ = static_cast<int32_t>(footer.largest_id);
  file.skipped_records_ = footer.skipped_records;
  file.ids_ = mapping.data() + sizeof header;
  const std::byte* const bounds = file.ids_ + ids_bytes;
  file.bounds_ = {reinterpret_cast<const int64_t*>(bounds),
                  static_cast<size_t>(footer.documents) + 1};
  file.unscored_ = {reinterpret_cast<const TokenSpan*>(bounds + bounds_bytes),
                    static_cast<size_t>(footer.unscored_spans)};
  file.special_ = {reinterpret_cast<const SpecialCount*>(bounds + bounds_bytes + spans_bytes),
                   footer.special_tokens};
  file.unscored_before_ = {0};
  for (const TokenSpan& span : file.unscored_) {
    file.unscored_before_.push_back(file.unscored_before_.back() + span.size());
  }
  return file;
}

std::string TokenFile::name() const { return called_.empty() ? shown(path()) : called_; }

uint64_t TokenFile::digest() const {
  const uint64_t parts[] = {hash_bytes({ids_, static_cast<size_t>(tokens_ * id_bytes_)}),
                            hash_bytes(std::as_bytes(bounds_)),
                            hash_bytes(std::as_bytes(unscored_)), static_cast<uint64_t>(id_bytes_)};
  return hash_bytes(std::as_bytes(std::span(parts)));
}

int32_t TokenFile::id(int64_t position) const {
  int32_t id;
  copy_ids(position, {&id, 1});
  return id;
}

std::map<int32_t, int64_t> TokenFile::special_tokens() const {
  std::map<int32_t, int64_t> counts;
  for (const auto& [id, count] : special_) counts[static_cast<int32_t>(id)] = count;
  return counts;
}

void TokenFile::copy_ids(int64_t begin, std::span<int32_t> out) const {
  const std::byte* const from = ids_ + begin * id_bytes_;
  if (id_bytes_ == 4) {
    std::memcpy(out.data(), from, out.size_bytes());
  } else {
    const auto* const ids = reinterpret_cast<const uint16_t*>(from);
    std::copy_n(ids, out.size(), out.begin());
  }
}

int64_t TokenFile::unscored_in(TokenSpan span) const {
  // The tokens without score before `position`: those of whole spans before it, and of the one that
  // it may lie in.
  const auto before = [&](int64_t position) {
    const auto next = std::partition_point(unscored_.begin(), unscored_.end(),
                                           [&](const TokenSpan& s) { return s.begin < position; });
    const auto count = next - unscored_.begin();
    if (count == 0) return int64_t{0};
    const TokenSpan& last = unscored_[count - 1];
    return unscored_before_[count - 1] + std::min(position, last.end) - last.begin;
  };
  return before(span.end) - before(span.begin);
}

// ------------------------------------------------------------------------------------ writing

TokenFileWriter::TokenFileWriter(const std::filesystem::path& path, const TokenFileKey& key,
                                 int64_t vocabulary_size)
    : file_(path), id_bytes_(vocabulary_size <= 0x10000 ? 2 : 4) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.id_bytes = static_cast<uint32_t>(id_bytes_);
  header.key = key;
  file_.write(bytes_of(header));
}

void TokenFileWriter::append(std::span<const int32_t> ids, bool scored) {
  if (ids.empty()) return;
  largest_id_ = std::max(largest_id_, *std::max_element(ids.begin(), ids.end()));
  const size_t at = buffer_.size();
  buffer_.resize(at + ids.size() * static_cast<size_t>(id_bytes_));
  if (id_bytes_ == 4) {
    std::memcpy(&buffer_[at], ids.data(), ids.size_bytes());
  } else {
    std::copy(ids.begin(), ids.end(), reinterpret_cast<uint16_t*>(&buffer_[at]));
  }
  if (buffer_.size() > kBufferBytes) flush();
  const int64_t begin = tokens_;
  tokens_ += static_cast<int64_t>(ids.size());
  if (scored) return;
  if (!unscored_.empty() && unscored_.back().end == begin) {
    unscored_.back().end = tokens_;
  } else {
    unscored_.push_back({begin, tokens_});
  }
}

void TokenFileWriter::flush() {
  file_.write(std::span<const std::byte>(buffer_));
  buffer_.clear();
}

void TokenFileWriter::end_document(bool sample) {
  if (tokens_ > bounds_.back() >> 1) bounds_.push_back(2 * tokens_ + (sample ? 1 : 0));
}

void TokenFileWriter::commit() {
  end_document();
  flush();
  const std::byte zeros[8] = {};
  file_.write(std::span(zeros).first(
      static_cast<size_t>(padded(tokens_ * id_bytes_) - tokens_ * id_bytes_)));
  file_.write(std::as_bytes(std::span(bounds_)));
  file_.write(std::as_bytes(std::span(unscored_)));
  for (const auto& [id, count] : special_) file_.write(bytes_of(SpecialCount{id, count}));
  Footer footer{};
  footer.tokens = tokens_;
  footer.documents = static_cast<int64_t>(bounds_.size()) - 1;
  footer.unscored_spans = static_cast<int64_t>(unscored_.size());
  footer.largest_id = largest_id_;
  footer.special_tokens = static_cast<uint32_t>(special_.size());
  footer.skipped_records = skipped_records_;
  footer.hash = footer_hash(file_.hash(), footer);
  std::memcpy(footer.magic, kMagic, sizeof kMagic);
  file_.write(bytes_of(footer));
  file_.commit();
}

}  // namespace tenon
