// SPDX-License-Identifier: Apache-2.0
#include "core/safetensors.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>

#include "tests/core/safetensors_bytes.h"
#include "tests/core/temp_folder.h"

using namespace tenon;
using test::error_of;
using test::file_of;
using test::get_file;
using test::header_of;
using test::put_file;
using test::TempFolder;
using test::tensor;
using test::text_of;

namespace {

// The Error of opening these bytes, without the file's name.
std::string verdict(const TempFolder& folder, std::string_view bytes) {
  const auto path = put_file(folder / "x", bytes);
  std::string error = error_of([&] { SafetensorsFile::open(path); });
  const std::string start = fmt::format("2: {}", shown(path));
  if (error != "no error") REQUIRE(error.starts_with(start));
  return error == "no error" ? error : error.substr(start.size());
}

// The tensors of tests/reference/make_safetensors_case.py.
struct ReferenceCase {
  std::vector<float> h = {0, 1, 2, 3, 4, 5};
  float scalar = 3.5f, one = 1;
  std::vector<uint16_t> bf16 = {0, 0x3F80, 0x4000, 0x4040}, f16 = {0, 0x3C00, 0x4000};
  std::vector<int64_t> i64 = {0, 1};
  std::vector<int32_t> i32 = {0, 1, 2};
  std::vector<uint8_t> u8 = {0, 1, 2};
  std::vector<TensorToWrite> tensors = {
      {"h.0.w", DType::kF32, {2, 3}, h.data()},
      {"scalar", DType::kF32, {}, &scalar},
      {"empty", DType::kF32, {0, 7}, nullptr},
      {"quote\"\\\n\x01\xC3\xA9\x7f", DType::kF32, {1}, &one},
      {"a.bf16", DType::kBF16, {4}, bf16.data()},
      {"z.f16", DType::kF16, {3}, f16.data()},
      {"count.i64", DType::kI64, {2}, i64.data()},
      {"count.i32", DType::kI32, {3}, i32.data()},
      {"codes", DType::kU8, {3}, u8.data()},
  };
};

}  // namespace

TEST_CASE("files are byte for byte those of Hugging Face's writer", "[safetensors]") {
  const std::filesystem::path reference =
      TENON_SOURCE_DIR "/tests/reference/cases/safetensors/hugging_face.safetensors";
  const TempFolder folder;
  const ReferenceCase made;
  const WrittenFile written = write_safetensors(folder / "a.safetensors", made.tensors);
  CHECK(get_file(written.path) == get_file(reference));
  CHECK(written.bytes == static_cast<int64_t>(std::filesystem::file_size(reference)));
  CHECK(written.hash == hash_file(reference));
  CHECK(folder.entries() == 1);

  const SafetensorsFile file = SafetensorsFile::open(reference);
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  REQUIRE(file.entries().size() == made.tensors.size());
  std::vector<TensorToWrite> again;
  for (const TensorToWrite& tensor : made.tensors) {
    const TensorEntry* entry = file.find(tensor.name);
    REQUIRE(entry != nullptr);
    CHECK(entry->dtype == tensor.dtype);
    CHECK(entry->dtype_name == safetensors_name(tensor.dtype));
    CHECK(entry->shape == tensor.shape);
    CHECK(entry->bytes == entry->elements() * size_of(tensor.dtype));
    CHECK((entry->bytes == 0 ||
           std::memcmp(entry->data, tensor.data, static_cast<size_t>(entry->bytes)) == 0));
    again.push_back({entry->name, *entry->dtype, entry->shape, entry->data});
  }
  CHECK(file.find("absent") == nullptr);
  std::reverse(again.begin(), again.end());  // the order given does not matter
  CHECK(write_safetensors(folder / "b", again).hash == written.hash);
}

TEST_CASE("metadata and empty files are written", "[safetensors]") {
  const TempFolder folder;
  write_safetensors(folder / "a", {}, {{"format", "pt"}, {"step", "12\n"}});
  const SafetensorsFile file = SafetensorsFile::open(folder / "a");
  CHECK(file.entries().empty());
  CHECK(file.metadata().at("step") == "12\n");
  write_safetensors(folder / "b", {}, {});
  CHECK(get_file(folder / "b") == file_of("{}      "));
  const TensorToWrite twice[] = {{"a", DType::kU8, {1}, "x"}, {"a", DType::kU8, {1}, "y"}};
  CHECK(error_of([&] { write_safetensors(folder / "c", twice); }).starts_with("1: "));
  CHECK_FALSE(std::filesystem::exists(folder / "c"));
}

TEST_CASE("each rule of the format, broken once", "[safetensors]") {
  const TempFolder folder;
  const std::string a = tensor("a", "F32", "[1]", "[0,4]"), b = tensor("b", "F32", "[1]", "[4,8]");
  const std::string deep(300, '[');
  std::string many_dims = "[";
  for (int i = 0; i < 64; ++i) many_dims += "1,";
  struct Case {
    std::string header, data, message;
  };
  const std::vector<Case> cases = {
      {"", "", "@8: expected a header that starts with '{', got \"\""},
      {"[]", "", "expected a header that starts with '{'"},
      {"{" + a, "1234", " header:1:54: invalid JSON: expected ',' or '}', got the end of the text"},
      {"{" + a + "}x", "1234", "invalid JSON"},
      {header_of({a}) + std::string(1, '\0'), "1234", "got a NUL byte"},
      {"{\"\xFF\":1}", "", "invalid JSON"},
      {"{\"a\":" + deep, "", "levels of nesting"},
      {header_of({a, tensor("a", "F32", "[1]", "[4,8]")}), "12345678",
       " tensor \"a\": expected each name once"},
      {"{\"__metadata__\":{},\"__metadata__\":{}}", "", "expected one __metadata__, got two"},
      {"{\"__metadata__\":[]}", "", "__metadata__: expected an object, got a list"},
      {"{\"__metadata__\":{\"step\":1}}", "", "__metadata__ \"step\": expected a string, got 1"},
      {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", "", "expected each key once"},
      {header_of({tensor("a\\u0000b", "F32", "[1]", "[0,4]")}), "1234",
       " tensor \"a\\x00b\": expected a name without NUL"},
      {"{\"a\":3}", "", " tensor \"a\": expected an object, got 3"},
      {"{\"a\":{\"shape\":[],\"data_offsets\":[0,0]}}", "",
       "expected the field \"dtype\", got none"},
      {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", "",
       "expected the field \"shape\", got none"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", "",
       "expected the field \"data_offsets\", got none"},
      {header_of({tensor("a", "f32", "[1]", "[0,4]")}), "1234",
       "expected a dtype of the format (F32, BF16, ...), got \"f32\""},
      {"{\"a\":{\"dtype\":7,\"shape\":[],\"data_offsets\":[0,0]}}", "",
       "expected a dtype of the format"},
      {header_of({tensor("a", "F32", "1", "[0,4]")}), "1234", "shape: expected a list, got 1"},
      {header_of({tensor("a", "F32", "[-1]", "[0,4]")}), "1234",
       "shape: expected whole numbers, got -1"},
      {header_of({tensor("a", "F32", "[1.0]", "[0,4]")}), "1234",
       "shape: expected whole numbers, got 1.0"},
      {header_of({tensor("a", "F32", "[\"1\"]", "[0,4]")}), "1234",
       "shape: expected whole numbers, got \"1\""},
      {header_of({tensor("a", "F32", "[null]", "[0,4]")}), "1234",
       "shape: expected whole numbers, got null"},
      {header_of({tensor("a", "F32", "[18446744073709551616]", "[0,4]")}), "1234",
       "shape: expected whole numbers"},
      {header_of({tensor("a", "F32", "[0,18446744073709551615]", "[0,0]")}), "",
       "shape: expected a size of less than 2^63"},
      {header_of({tensor("a", "F32", "[4294967296,4294967296]", "[0,0]")}), "",
       "less than 2^63 bits, got 4294967296 x 42"},
      {header_of({tensor("a", "F32", "[1099511627776,16777216,0]", "[0,0]")}), "",
       "less than 2^63 bits"},
      {header_of({tensor("a", "F4", "[3]", "[0,1]")}), "1",
       "expected whole bytes, got 12 bits of F4"},
      {header_of({tensor("a", "F32", "[1]", "[0]")}), "1234",
       "data_offsets: expected 2 numbers, got 1"},
      {header_of({tensor("a", "F32", "[1]", "[0,4,8]")}), "1234",
       "data_offsets: expected 2 numbers, got 3"},
      {header_of({tensor("a", "F32", "[1]", "{}")}), "1234",
       "data_offsets: expected a list, got an object"},
      {header_of({tensor("a", "F32", "[1]", "[4,0]")}), "1234",
       "data_offsets: expected begin <= end, got [4, 0]"},
      {header_of({tensor("a", "F32", "[1]", "[-4,0]")}), "1234",
       "data_offsets: expected whole numbers, got -4"},
      {header_of({tensor("a", "F32", "[2]", "[0,4]")}), "1234",
       "data_offsets: expected 8 bytes for F32 2, got 4"},
      {header_of({tensor("a", "F32", "[]", "[0,8]")}), "12345678",
       "expected 4 bytes for F32 scalar, got 8"},
      {header_of({tensor("a", "U8", "[0]", "[18446744073709551615,18446744073709551615]")}), "",
       "(a hole)"},
      {header_of({tensor("a", "F32", "[1]", "[4,8]")}), "12345678",
       "expected data from byte 0 on, got 4 (a hole)"},
      {header_of({a, tensor("b", "F32", "[1]", "[8,12]")}), "123456789012",
       "from byte 4 on, got 8 (a hole)"},
      {header_of({a, tensor("b", "F32", "[1]", "[2,6]")}), "123456",
       "got 2 (it overlaps the tensor before)"},
      {header_of({a, tensor("b", "F32", "[1]", "[0,4]")}), "1234",
       "got 0 (it overlaps the tensor before)"},
      {header_of({a, tensor("z", "F32", "[0]", "[2,2]")}), "1234",
       "got 2 (it overlaps the tensor before)"},
      {header_of({a, b}), "1234567",
       " tensor \"b\": expected data up to byte 8 of the data, got a file with 7"},
      {header_of({a}), "12345", "@66: expected the end of the file, got 1 bytes of no tensor"},
      {"{}", "1", "@10: expected the end of the file"},
      {header_of({tensor("a", "U8", many_dims + "1]", "[0,1]")}), "1",
       "shape: expected at most 64 dims, got 65"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.header, c.message);
    const std::string error = verdict(folder, file_of(c.header, c.data));
    CAPTURE(error);
    CHECK(error.find(c.message) != std::string::npos);
    CHECK(error.find('\n') == std::string::npos);
    CHECK(error.size() < 400);
  }
}

TEST_CASE("the header's length is checked before it is believed", "[safetensors]") {
  const TempFolder folder;
  const auto with_length = [](uint64_t length, std::string_view rest) {
    std::string file(sizeof length, '\0');
    std::memcpy(file.data(), &length, sizeof length);
    return file.append(rest);
  };
  CHECK(verdict(folder, "1234567") == ": expected at least 8 bytes, got 7");
  CHECK(verdict(folder, with_length(100'000'001, "{}")) ==
        "@0: expected a header length up to 100000000, got 100000001 (not a safetensors file?)");
  CHECK(verdict(folder, with_length(UINT64_MAX, "{}")).find("got 18446744073709551615") !=
        std::string::npos);
  CHECK(verdict(folder, with_length(UINT64_MAX - 7, "{}")).starts_with("@0: "));
  CHECK(verdict(folder, with_length(3, "{}")) ==
        "@0: expected a header of 3 bytes, got 2 (the file is cut short)");
}

TEST_CASE("what is odd but legal is read", "[safetensors]") {
  const TempFolder folder;
  const std::string a = tensor("a", "F32", "[1]", "[0,4]");
  CHECK(verdict(folder, file_of("  \n{" + a + "}  ", "1234")) == "no error");
  CHECK(verdict(folder, file_of("{}")) == "no error");
  CHECK(verdict(folder, file_of("{\"__metadata__\":null}")) == "no error");
  CHECK(
      verdict(folder,
              file_of("{\"a\":{\"x\":[1,{}],\"data_offsets\":[0,1],\"dtype\":\"U8\",\"shape\":[]}}",
                      "1")) == "no error");
  CHECK(verdict(folder, file_of(header_of({tensor("", "F32", "[1]", "[0,4]")}), "1234")) ==
        "no error");
  CHECK(verdict(folder, file_of(header_of({tensor("a", "F4", "[2]", "[0,1]")}), "1")) ==
        "no error");

  // Entries in any order, tensors at odd bytes, empty tensors between, dtypes that Tenon has no
  // name for.
  put_file(
      folder / "x",
      file_of(
          header_of({tensor("late", "F64", "[1]", "[5,13]"), tensor("w", "F32", "[1]", "[1,5]"),
                     tensor("zero", "BF16", "[3,0]", "[5,5]"), tensor("one", "U8", "[]", "[0,1]")}),
          "abcdefghijklm"));
  const SafetensorsFile file = SafetensorsFile::open(folder / "x");
  REQUIRE(file.entries().size() == 4);
  CHECK(file.entries()[0].name == "one");
  CHECK(text_of(*file.find("w")) == "bcde");
  CHECK(text_of(*file.find("late")) == "fghijklm");
  CHECK_FALSE(file.find("late")->dtype.has_value());
  CHECK(file.find("late")->dtype_name == "F64");
  CHECK(file.find("zero")->elements() == 0);
  CHECK(file.find("one")->elements() == 1);
}

TEST_CASE("an entry keeps its bytes alive", "[safetensors]") {
  const TempFolder folder;
  put_file(folder / "x", file_of(header_of({tensor("a", "U8", "[4]", "[0,4]")}), "1234"));
  TensorEntry entry;
  {
    SafetensorsFile moved = SafetensorsFile::open(folder / "x");
    const SafetensorsFile file = std::move(moved);
    entry = *file.find("a");
  }
  CHECK(text_of(entry) == "1234");
  CHECK(entry.file->path() == folder / "x");
}

TEST_CASE("every truncation is refused, every flipped header bit refused or harmless",
          "[safetensors]") {
  const TempFolder folder;
  const ReferenceCase made;
  std::vector<TensorToWrite> tensors(made.tensors.begin(), made.tensors.begin() + 6);
  tensors.erase(tensors.begin() +
                2);  // the empty one: it stays empty under other numbers of its shape
  write_safetensors(folder / "good", tensors);
  const std::string good = get_file(folder / "good");
  REQUIRE(good.size() > 300);
  const SafetensorsFile file = SafetensorsFile::open(folder / "good");
  for (size_t length = 0; length < good.size(); ++length)
    CHECK(verdict(folder, good.substr(0, length)) != "no error");

  size_t header_bytes = 0;
  std::memcpy(&header_bytes, good.data(), sizeof header_bytes);
  int accepted = 0;
  for (size_t bit = 0; bit < 8 * (8 + header_bytes); ++bit) {
    std::string flipped = good;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    if (verdict(folder, flipped) != "no error") continue;
    ++accepted;  // a letter of a name or of the metadata
    const SafetensorsFile other = SafetensorsFile::open(folder / "x");
    REQUIRE(other.entries().size() == file.entries().size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      CAPTURE(bit);
      CHECK(text_of(other.entries()[i]) == text_of(file.entries()[i]));
      CHECK(other.entries()[i].dtype == file.entries()[i].dtype);
      CHECK(other.entries()[i].shape == file.entries()[i].shape);
    }
  }
  CHECK(accepted > 0);
}

TEST_CASE("a file of a terabyte opens without being read", "[safetensors]") {
  const TempFolder folder;
  const int64_t bytes = int64_t{1} << 40;
  const auto path =
      put_file(folder / "x", file_of(header_of({tensor("a", "U8", fmt::format("[{}]", bytes),
                                                       fmt::format("[0,{}]", bytes))})));
  if (::truncate(path.c_str(), static_cast<int64_t>(std::filesystem::file_size(path)) + bytes) !=
      0) {
    WARN("SKIPPED: this file system has no sparse files of 1 TiB");
    return;
  }
  const SafetensorsFile file = SafetensorsFile::open(path);
  CHECK(file.find("a")->bytes == bytes);
  CHECK(file.find("a")->data[bytes - 1] == std::byte{0});
}

TEST_CASE("a large header is read, up to a limit", "[safetensors]") {
  const TempFolder folder;
  std::string header = "{";
  for (int i = 0; i < 250'001; ++i) {
    header += tensor(fmt::format("t{}", i), "U8", "[0]", "[0,0]") + ",";
    if (i != 49'999) continue;
    CHECK(verdict(folder, file_of(header.substr(0, header.size() - 1) + "}")) == "no error");
  }
  header.back() = '}';
  CHECK(verdict(folder, file_of(header)) ==
        " tensor \"t250000\": expected at most 250000 tensors, got more");
  std::string zeros = "{\"a\":{\"x\":[0";
  for (int i = 0; i < 4'000'001; ++i) zeros += ",0";
  CHECK(verdict(folder, file_of(zeros + "]}}")) ==
        ": header: expected at most 4000000 values, got 4000002");
  const std::string note(17 << 20, 'n');
  CHECK(verdict(folder, file_of("{\"__metadata__\":{\"a\":\"\\\"" + note + "\"}}")) ==
        "@30: expected strings of at most 16777216 bytes, got one of 17825794");
}

TEST_CASE("other kinds of files are named", "[safetensors]") {
  const TempFolder folder;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "an empty file"},
      {"GGUF\x03", "a GGUF file"},
      {"PK\x03\x04"
       "abcdefgh",
       "a zip archive (a PyTorch .bin"},
      {"\x80\x02}q\x01(abcdef", "a Python pickle"},
      {"\x89HDF\r\n\x1a\n1234", "an HDF5 file"},
      {std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03xxxx", 14), "a gzip file"},
      {"\x28\xb5\x2f\xfd"
       "12345678",
       "a zstd file"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "a git-lfs pointer"},
      {"<!DOCTYPE html><html></html>", "a web page"},
      {"\n <HTML><body>404</body>", "a web page"},
      {"{\"error\":\"Repository not found\"}", "an error message of a server"},
      {"{\"a\": 1, \"b\": 2}", "JSON"},
  };
  for (const auto& [bytes, kind] : cases) {
    CAPTURE(kind);
    CHECK(verdict(folder, bytes).starts_with(": expected a safetensors file, got " + kind));
  }
}
