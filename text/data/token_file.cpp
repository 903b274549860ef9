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
  uint32_t special_tokens, unwritten_turns;
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

// Where the parts of a file lie, in bytes.
struct Layout {
  Header header;
  Footer footer;
  int64_t bounds_at, unscored_at, special_at, footer_at;
};

// The header and the footer, as far as the file's size alone can tell that they are right: nothing
// that they say leads out of the file.
Layout read_layout(const MappedFile& mapping, const std::string& name) {
  Layout l;
  constexpr auto kWhole = static_cast<int64_t>(sizeof(Header) + sizeof(Footer));
  if (mapping.size() < kWhole) {
    fail_input("{}: expected a token file of at least {} bytes, got {}", name, kWhole,
               mapping.size());
  }
  l.footer_at = mapping.size() - static_cast<int64_t>(sizeof(Footer));
  std::memcpy(&l.header, mapping.data(), sizeof(Header));
  std::memcpy(&l.footer, mapping.data() + l.footer_at, sizeof(Footer));
  if (std::memcmp(l.header.magic, kMagic, sizeof kMagic) != 0) {
    fail_input("{}: expected a token file (\"TENONTOK\" at byte 0), got \"{}\"", name,
               printable({l.header.magic, sizeof l.header.magic}));
  }
  if (l.header.version != kVersion) {
    fail_input("{}: expected token file version {}, got {}", name, kVersion, l.header.version);
  }
  if (std::memcmp(l.footer.magic, kMagic, sizeof kMagic) != 0) {
    fail_input("{}: expected the end of a token file at byte {}, got other bytes (is it cut off?)",
               name, l.footer_at);
  }
  if (l.header.id_bytes != 2 && l.header.id_bytes != 4) {
    fail_input("{}@{}: expected 2 or 4 bytes an id, got {}", name, offsetof(Header, id_bytes),
               l.header.id_bytes);
  }
  for (const int64_t count : {l.footer.tokens, l.footer.documents, l.footer.unscored_spans}) {
    if (count >= 0 && count <= mapping.size()) continue;  // so that no sum below overflows
    fail_input("{}@{}: expected counts of 0..{}, got {}", name, l.footer_at, mapping.size(), count);
  }
  l.bounds_at = static_cast<int64_t>(sizeof(Header)) + padded(l.footer.tokens * l.header.id_bytes);
  l.unscored_at = l.bounds_at + (l.footer.documents + 1) * 8;
  l.special_at = l.unscored_at + l.footer.unscored_spans * 16;
  const int64_t expected = l.special_at + int64_t{l.footer.special_tokens} * 16;
  if (expected != l.footer_at) {
    fail_input("{}@{}: expected {} bytes by the counts at the end, got {}", name, l.footer_at,
               expected + static_cast<int64_t>(sizeof(Footer)), mapping.size());
  }
  return l;
}

template <class Id>
uint32_t largest_of(const std::byte* at, int64_t bytes) {
  const auto* const ids = reinterpret_cast<const Id*>(at);
  Id largest = 0;
  for (int64_t i = 0; i < bytes / static_cast<int64_t>(sizeof(Id)); ++i)
    largest = std::max(largest, ids[i]);
  return largest;
}

// Reads all of the file once, for the checksum and the largest id: in blocks, so that what is read
// twice is still in the CPU's cache the second time.
void check_content(const std::byte* data, const Layout& l, const std::string& name) {
  constexpr int64_t kBlock = 256 << 10;
  const bool wide = l.header.id_bytes == 4;
  const int64_t ids_at = sizeof(Header), ids_end = ids_at + l.footer.tokens * l.header.id_bytes;
  const auto largest_in = [&](int64_t begin, int64_t end) {
    return wide ? largest_of<uint32_t>(data + begin, end - begin)
                : largest_of<uint16_t>(data + begin, end - begin);
  };
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  XXH3_64bits_reset(state.get());
  uint32_t largest = 0;
  XXH3_64bits_update(state.get(), data, static_cast<size_t>(ids_at));
  for (int64_t at = ids_at; at < l.footer_at; at += kBlock) {
    XXH3_64bits_update(state.get(), data + at,
                       static_cast<size_t>(std::min(kBlock, l.footer_at - at)));
    if (at < ids_end) largest = std::max(largest, largest_in(at, std::min(at + kBlock, ids_end)));
  }
  if (footer_hash(XXH3_64bits_digest(state.get()), l.footer) != l.footer.hash) {
    fail_input("{}: expected the checksum {:016x}, got another (the file is damaged)", name,
               l.footer.hash);
  }
  const auto* const spare = std::find_if(std::begin(l.header.reserved), std::end(l.header.reserved),
                                         [](uint64_t word) { return word != 0; });
  if (spare != std::end(l.header.reserved)) {
    fail_input("{}@{}: expected zeros, which this version keeps free", name,
               offsetof(Header, reserved));
  }
  if (l.footer.skipped_records < 0) {
    fail_input("{}@{}: expected a count of records passed over, got {}", name,
               l.footer_at + static_cast<int64_t>(offsetof(Footer, skipped_records)),
               l.footer.skipped_records);
  }
  if (largest == l.footer.largest_id && largest <= INT32_MAX) return;
  int64_t at = ids_at;
  while (at < ids_end && largest_in(at, at + l.header.id_bytes) != largest) at += l.header.id_bytes;
  fail_input("{}@{}: expected ids up to {}, the largest by byte {}, got {}", name, at,
             l.footer.largest_id, l.footer_at + static_cast<int64_t>(offsetof(Footer, largest_id)),
             largest);
}

// Documents follow one another without a gap, none is empty, and together they are all tokens.
void check_bounds(std::span<const int64_t> bounds, const Layout& l, const std::string& name) {
  const auto byte_of = [&](size_t i) { return l.bounds_at + 8 * static_cast<int64_t>(i); };
  if (bounds[0] != 0) {
    fail_input("{}@{}: expected the first document to begin at 0, got {}", name, byte_of(0),
               bounds[0]);
  }
  for (size_t i = 1; i < bounds.size(); ++i) {
    const int64_t end = bounds[i] >> 1, before = bounds[i - 1] >> 1;
    if (end > before && end <= l.footer.tokens) continue;
    fail_input("{}@{}: expected document {} to end within {}..{}, got {}", name, byte_of(i), i,
               before + 1, l.footer.tokens, end);
  }
  if (bounds.back() >> 1 != l.footer.tokens) {
    fail_input("{}@{}: expected the last document to end at {}, where the tokens do, got {}", name,
               byte_of(bounds.size() - 1), l.footer.tokens, bounds.back() >> 1);
  }
}

void check_unscored(std::span<const TokenSpan> unscored, const Layout& l, const std::string& name) {
  int64_t before = 0;
  for (size_t i = 0; i < unscored.size(); ++i) {
    const TokenSpan& span = unscored[i];
    if (span.begin < before || span.begin >= span.end || span.end > l.footer.tokens) {
      fail_input("{}@{}: expected a span without score within {}..{}, got {}..{}", name,
                 l.unscored_at + 16 * static_cast<int64_t>(i), before, l.footer.tokens, span.begin,
                 span.end);
    }
    before = span.end;
  }
}

void check_special(std::span<const SpecialCount> special, const Layout& l,
                   const std::string& name) {
  int64_t least = 0;
  for (size_t i = 0; i < special.size(); ++i) {
    if (special[i].id < least || special[i].id > INT32_MAX || special[i].count < 0) {
      fail_input("{}@{}: expected a special token of {}..{} and its count, got {} and {}", name,
                 l.special_at + 16 * static_cast<int64_t>(i), least, INT32_MAX, special[i].id,
                 special[i].count);
    }
    least = special[i].id + 1;
  }
}

}  // namespace

// ------------------------------------------------------------------------------------ reading

bool is_token_file(const std::filesystem::path& path) {
  return MappedFile::open(path)->text().starts_with(std::string_view(kMagic, sizeof kMagic));
}

TokenFile TokenFile::open(const std::filesystem::path& path) {
  TokenFile file;
  file.mapping_ = MappedFile::open(path);
  const std::byte* const data = file.mapping_->data();
  const std::string name = shown(path);
  const Layout layout = read_layout(*file.mapping_, name);
  const Footer& footer = layout.footer;
  check_content(data, layout, name);

  file.key_ = layout.header.key;
  file.id_bytes_ = static_cast<int>(layout.header.id_bytes);
  file.tokens_ = footer.tokens;
  file.largest_id_ = static_cast<int32_t>(footer.largest_id);
  file.skipped_records_ = footer.skipped_records;
  file.unwritten_turns_ = footer.unwritten_turns;
  file.ids_ = data + sizeof(Header);
  file.bounds_ = {reinterpret_cast<const int64_t*>(data + layout.bounds_at),
                  static_cast<size_t>(footer.documents) + 1};
  file.unscored_ = {reinterpret_cast<const TokenSpan*>(data + layout.unscored_at),
                    static_cast<size_t>(footer.unscored_spans)};
  file.special_ = {reinterpret_cast<const SpecialCount*>(data + layout.special_at),
                   footer.special_tokens};
  check_bounds(file.bounds_, layout, name);
  check_unscored(file.unscored_, layout, name);
  check_special(file.special_, layout, name);
  file.unscored_before_.reserve(file.unscored_.size() + 1);
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
  footer.unwritten_turns = static_cast<uint32_t>(std::min<int64_t>(unwritten_turns_, UINT32_MAX));
  footer.hash = footer_hash(file_.hash(), footer);
  std::memcpy(footer.magic, kMagic, sizeof kMagic);
  file_.write(bytes_of(footer));
  file_.commit();
}

}  // namespace tenon
