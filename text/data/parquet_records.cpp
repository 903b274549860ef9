// SPDX-License-Identifier: Apache-2.0
// Rows of .parquet, through the library beside the program that knows how to read them.
#include <dlfcn.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "core/json.h"
#include "text/data/byte_source.h"
#include "text/data/parquet_plugin.h"
#include "text/data/record_reader.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// The library stays open: Arrow's threads and caches outlive a file.
OpenParquet open_parquet(const std::string& file) {
  static const OpenParquet function = []() -> OpenParquet {
    const fs::path program = files::link_target("/proc/self/exe").parent_path();
    // As it is installed, and as it lies in a build folder.
    for (const char* folder : {".", "../lib/tenon", "../lib", "../../lib"}) {
      const fs::path path = program / folder / "libtenon_parquet.so";
      if (!files::exists(path)) continue;
      void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr) fail(Exit::kEnvironment, "{}: {}", shown(path), printable(dlerror()));
      void* const found = dlsym(library, kOpenParquet);
      if (found != nullptr) return reinterpret_cast<OpenParquet>(found);
    }
    return nullptr;
  }();
  if (function == nullptr) {
    fail(Exit::kEnvironment,
         "{}: this program was built without Parquet (TENON_PARQUET; tools/dev build installs what "
         "it needs)",
         file);
  }
  return function;
}

// A packed file, unpacked into a file without a name that goes away with this object: Parquet is
// read from its end.
class Unpacked {
 public:
  explicit Unpacked(const fs::path& path) {
    const auto source = open_bytes(path);
    std::vector<char> buffer(size_t{1} << 18);
    while (const size_t count = source->read(buffer)) {
      write_all(file_.fd(), std::as_bytes(std::span(buffer).first(count)), file_.folder());
    }
  }
  fs::path path() const { return fmt::format("/proc/self/fd/{}", file_.fd()); }

 private:
  ScratchFile file_;
};

class ParquetReader : public RecordReader {
 public:
  explicit ParquetReader(const fs::path& path) : file_(shown(path)) {
    MappedFile::open(path);  // says what is wrong with what is no file
    fs::path readable = path;
    if (!data_file_name(path).compression.empty()) readable = unpacked_.emplace(path).path();
    std::string fault;
    rows_.reset(open_parquet(file_)(readable.c_str(), fault));
    if (rows_ == nullptr) fail_input("{}: {}", file_, printable(fault, 240));
  }

  bool next(Record& record) override {
    std::string fault;
    record.place = fmt::format("{}: row {}", file_, ++row_);
    record.begin.clear();
    record.fault.clear();
    switch (rows_->next(record.value, fault)) {
      case ParquetRows::Next::kRow: return true;
      case ParquetRows::Next::kEnd: return false;
      default: fail_input("{}: {}", record.place, printable(fault, 240));
    }
  }

 private:
  std::string file_;
  std::optional<Unpacked> unpacked_;
  std::unique_ptr<ParquetRows> rows_;
  int64_t row_ = 0;
};

}  // namespace

std::unique_ptr<RecordReader> read_parquet(const fs::path& path) {
  return std::make_unique<ParquetReader>(path);
}

}  // namespace tenon
