// SPDX-License-Identifier: Apache-2.0
#include "text/data/encode_data.h"

#include <algorithm>
#include <utility>

#include "core/file.h"
#include "text/data/byte_source.h"
#include "text/data/in_order.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// What one thread encodes at a time, of records; of a .txt it is TokenizeOptions::chunk_bytes.
constexpr int64_t kRangeBytes = 1 << 20;
constexpr size_t kBatchBytes = 1 << 18, kBatchRecords = 1 << 12;

// How a file is read, and with it how ranks share it.
enum class Way {
  kText,    // a .txt: from cut to cut
  kRanges,  // lines of records: from any byte on
  kPacked,  // a .txt that must be unpacked from its front on: whole
  kRecords  // the same of records
};

Way way_of(const fs::path& source) {
  const DataFileName name = data_file_name(source);
  if (is_plain_text(source)) return name.compression.empty() ? Way::kText : Way::kPacked;
  return can_split(source) ? Way::kRanges : Way::kRecords;
}

struct Work {
  std::string text;                 // a stretch of a .txt
  int64_t begin = 0;                // the byte of the file where it lies
  bool continued = false;           // from where an earlier one ends
  std::vector<Document> documents;  // or records
  ByteRange range;                  // or where they are
  EncodedPart part;
};

class Encoder {
 public:
  Encoder(std::span<const fs::path> sources, const Tokenizer& tokenizer,
          const TokenizeOptions& options, Framing framing,
          const std::function<void(const EncodedPart&)>& take)
      : sources_(sources),
        tokenizer_(tokenizer),
        options_(options),
        framing_(framing),
        take_(take) {
    special_.resize(static_cast<size_t>(tokenizer.vocabulary_size()));
    for (size_t id = 0; id < special_.size(); ++id)
      special_[id] = tokenizer.is_special(static_cast<int32_t>(id));
  }

  // Encodes the bytes [begin, end) of sources[index], or all of it where it cannot be shared.
  void encode(size_t index, Way way, int64_t begin, int64_t end) const {
    const fs::path& source = sources_[index];
    if (way == Way::kRecords) return encode_records(source);
    if (way == Way::kRanges) return encode_ranges(source, {begin, end});
    if (way == Way::kPacked) return encode_text(index, {}, true);
    const auto file = MappedFile::open(source);
    const bool last = end >= file->size();
    const ByteRange range = {cut_before(file->text(), begin),
                             last ? INT64_MAX : cut_before(file->text(), end)};
    if (range.begin < range.end) encode_text(index, range, last);
  }

 private:
  void encode_text(size_t index, ByteRange range, bool to_the_end) const {
    const fs::path& source = sources_[index];
    ByteWindow window =
        range.begin == 0 ? open_text(source) : ByteWindow(open_bytes(source, range.begin));
    bool done = false, continued = range.begin > 0;
    const auto make = [&](Work& work) {
      if (done) return false;
      work.continued = std::exchange(continued, true);
      const int64_t left = range.end - range.begin - window.offset();
      work.begin = range.begin + window.offset();
      work.text = next_chunk(window, static_cast<size_t>(left));
      window.drop(work.text.size());
      done = static_cast<int64_t>(work.text.size()) == left || window.peek() < 0;
      work.part.source = static_cast<int32_t>(index);
      work.part.text = !options_.lines;
      work.part.ends_text = work.part.text && done && to_the_end;
      return true;
    };
    run(make, [&](Work& work) {
      work.part.faults = text_faults(work.text, work.begin);
      if (options_.lines) return encode_lines(work);
      if (work.continued) {
        tokenizer_.encode_continued(work.text, true, work.part.ids);
      } else {
        tokenizer_.encode(work.text, work.part.ids);
      }
      count_special(work.part.ids, work.part);
    });
  }

  void encode_ranges(const fs::path& source, ByteRange range) const {
    int64_t next = range.begin;
    const auto make = [&](Work& work) {
      if (next >= range.end) return false;
      work.range = {next, std::min(range.end, next + kRangeBytes)};
      next = work.range.end;
      return true;
    };
    run(make, [&](Work& work) {
      const auto reader = open_documents(source, options_.documents, work.range);
      DocumentTokens tokens;
      for (Document document; reader->next(document);) add_document(document, tokens, work.part);
      work.part.skipped = reader->skipped();
    });
  }

  void encode_records(const fs::path& source) const {
    const auto reader = open_documents(source, options_.documents);
    int64_t skipped = 0;
    bool done = false;
    const auto make = [&](Work& work) {
      if (done) return false;
      for (size_t bytes = 0; bytes < kBatchBytes && work.documents.size() < kBatchRecords;) {
        Document document;
        done = !reader->next(document);
        if (done) break;
        for (const DocumentPiece& piece : document.pieces) bytes += piece.text.size();
        work.documents.push_back(std::move(document));
      }
      work.part.skipped = reader->skipped() - skipped;
      skipped = reader->skipped();
      return true;
    };
    run(make, [&](Work& work) {
      DocumentTokens tokens;
      for (const Document& document : work.documents) add_document(document, tokens, work.part);
    });
  }

  template <class Make, class Encode>
  void run(Make make, Encode encode) const {
    in_order<Work>(make, encode, [&](const Work& work) { take_(work.part); });
  }

  void encode_lines(Work& work) const {
    Document document;
    document.pieces.resize(1);
    DocumentTokens tokens;
    for (std::string_view rest = work.text; !rest.empty();) {
      std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      if (line.ends_with('\r')) line.remove_suffix(1);
      document.pieces[0].text = line;
      add_document(document, tokens, work.part);
    }
  }

  void add_document(const Document& document, DocumentTokens& tokens, EncodedPart& part) const {
    tokenize_document(document, tokenizer_, framing_, tokens, options_.plain_people);
    for (const int32_t id : tokens.named) ++part.special[id];
    part.unwritten += document.unwritten;
    const size_t size = tokens.ids.size();
    if (document.framed) {  // of a chat template's text those count that people named
      count_special(std::span(tokens.ids)
                        .subspan(static_cast<size_t>(tokens.front),
                                 size - static_cast<size_t>(tokens.front + tokens.back)),
                    part);
    }
    part.ids.insert(part.ids.end(), tokens.ids.begin(), tokens.ids.end());
    for (const TokenRun& run : tokens.runs)
      part.runs.push_back({run.count, run.scored, false, tokens.sample});
    if (tokens.runs.empty()) part.runs.push_back({0, true, false, tokens.sample});
    part.runs.back().ends = true;
  }

  void count_special(std::span<const int32_t> ids, EncodedPart& part) const {
    for (const int32_t id : ids) {
      if (special_[static_cast<size_t>(id)]) ++part.special[id];
    }
  }

  // A place where `text` may be cut, as far behind as there is one; 0 where there is none.
  size_t cut(std::string_view text) const {
    return options_.lines ? text.rfind('\n') + 1 : tokenizer_.safe_cut(text);
  }

  // The next chunk of the text, of which `left` bytes are to be read: up to a cut near chunk_bytes,
  // or everything where there is none.
  std::string_view next_chunk(ByteWindow& text, size_t left) const {
    const auto wanted = static_cast<size_t>(std::max<int64_t>(options_.chunk_bytes, 1));
    for (size_t bytes = wanted; bytes < left && text.reach(bytes + 1); bytes *= 2) {
      const std::string_view view = text.view().substr(0, bytes);
      if (const size_t length = cut(view)) return view.substr(0, length);
    }
    text.reach(left);
    return text.view().substr(0, left);
  }

  // The last cut in front of byte `at`, or 0: the same for whoever asks.
  int64_t cut_before(std::string_view file, int64_t at) const {
    const auto end = static_cast<size_t>(at);
    for (size_t window = 1 << 16; window < end; window *= 2) {
      size_t begin = end - window;
      while (begin < end && (static_cast<unsigned char>(file[begin]) & 0xC0) == 0x80) ++begin;
      if (const size_t found = cut(file.substr(begin, end - begin)))
        return static_cast<int64_t>(begin + found);
    }
    return static_cast<int64_t>(cut(file.substr(0, end)));
  }

  std::span<const fs::path> sources_;
  const Tokenizer& tokenizer_;
  const TokenizeOptions& options_;
  Framing framing_;
  const std::function<void(const EncodedPart&)>& take_;
  std::vector<bool> special_;  // by id
};

}  // namespace

void encode_data(std::span<const fs::path> sources, const Tokenizer& tokenizer,
                 const TokenizeOptions& options, Framing framing, Share share,
                 const std::function<void(const EncodedPart&)>& take) {
  const Encoder encoder(sources, tokenizer, options, framing, take);
  std::vector<int64_t> begins = {0};  // an empty file has a byte too, so that some rank refuses it
  for (const fs::path& source : sources)
    begins.push_back(begins.back() + std::max<int64_t>(1, MappedFile::open(source)->size()));
  const auto bound = [&](int rank) {
    const int64_t all = begins.back();
    return all / share.size * rank + all % share.size * rank / share.size;
  };
  const int64_t begin = bound(share.rank), end = bound(share.rank + 1);
  for (size_t i = 0; i < sources.size(); ++i) {
    const int64_t first = std::max(begin, begins[i]), last = std::min(end, begins[i + 1]);
    const Way way = way_of(sources[i]);
    const bool shared = way == Way::kText || way == Way::kRanges;
    if (shared ? first < last : begins[i] >= begin && begins[i] < end)
      encoder.encode(i, way, first - begins[i], last - begins[i]);
  }
}

Joiner::Joiner(const Tokenizer& tokenizer, Framing framing, DocumentSink sink)
    : tokenizer_(tokenizer), framing_(framing), sink_(std::move(sink)) {}

void Joiner::take(const EncodedPart& part) {
  if (part.text) {
    take_text(part.ids);
    if (part.ends_text) end_text();
    return;
  }
  std::span<const int32_t> rest = part.ids;
  for (const EncodedPart::Run& run : part.runs) {
    sink_.append(rest.first(static_cast<size_t>(run.count)), run.scored);
    rest = rest.subspan(static_cast<size_t>(run.count));
    if (run.ends) sink_.end_document(run.sample);
  }
}

void Joiner::take_text(std::span<const int32_t> ids) {
  const std::vector<int32_t>& prefix = tokenizer_.prefix();
  const std::optional<int32_t> eos = framing_ == Framing::kDocument || framing_ == Framing::kPrefix
                                         ? tokenizer_.eos_id()
                                         : std::nullopt;
  while (!ids.empty()) {
    const bool prefixed =
        ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
    if (!inside_ && !prefixed && framing_ != Framing::kNone) sink_.append(prefix, true);
    const auto end = eos ? std::find(ids.begin(), ids.end(), *eos) : ids.end();
    const bool ends = end != ids.end();
    const std::span<const int32_t> part =
        ids.first(static_cast<size_t>(end - ids.begin()) + (ends ? 1 : 0));
    sink_.append(part, true);
    keep_tail(part);
    inside_ = !ends;
    if (ends) sink_.end_document(false);
    ids = ids.subspan(part.size());
  }
}

void Joiner::end_text() {
  if (framing_ == Framing::kDocument && inside_ && tokenizer_.eos_id()) {
    sink_.append(std::vector{*tokenizer_.eos_id()}, true);
  }
  if (framing_ == Framing::kPrompt && tail_ != tokenizer_.suffix()) {
    sink_.append(tokenizer_.suffix(), true);
  }
  sink_.end_document(false);
  inside_ = false;
  tail_.clear();
}

void Joiner::keep_tail(std::span<const int32_t> ids) {
  const size_t wanted = tokenizer_.suffix().size();
  tail_.insert(tail_.end(), ids.end() - static_cast<std::ptrdiff_t>(std::min(wanted, ids.size())),
               ids.end());
  if (tail_.size() > wanted)
    tail_.erase(tail_.begin(), tail_.end() - static_cast<std::ptrdiff_t>(wanted));
}

}  // namespace tenon
