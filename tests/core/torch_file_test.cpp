// SPDX-License-Identifier: Apache-2.0
#include "core/torch_file.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "core/safetensors.h"
#include "core/weight_files.h"
#include "tests/core/safetensors_bytes.h"
#include "tests/core/temp_folder.h"
#include "tests/core/zip_bytes.h"

using namespace tenon;
using test::dict;
using test::error_of;
using test::get_file;
using test::global;
using test::integer;
using test::le;
using test::put_file;
using test::storage;
using test::TempFolder;
using test::text;
using test::text_of;
using test::torch_file;
using test::torch_tensor;
using test::tuple;
using test::zip_of;

namespace {

// What tests/reference/make_torch_case.py made.
const std::filesystem::path kCase = TENON_SOURCE_DIR "/tests/reference/cases/torch";

// The Error of opening these bytes, without the file's name; all bytes of all tensors are read.
std::string verdict(const TempFolder& folder, std::string_view bytes) {
  std::filesystem::remove(folder / "x.bin");  // some systems sync a file that is written over
  const auto path = put_file(folder / "x.bin", bytes);
  std::string error = error_of([&] {
    const TensorFile file = TensorFile::open(path);
    for (const TensorEntry& entry : file.entries()) {
      hash_bytes(std::span(entry.data, static_cast<size_t>(entry.bytes)));
    }
  });
  const std::string start = fmt::format("2: {}", shown(path));
  if (error != "no error") REQUIRE(error.starts_with(start));
  return error == "no error" ? error : error.substr(start.size());
}

void check_same(const WeightFiles& weights) {
  const SafetensorsFile expected = SafetensorsFile::open(kCase / "views.safetensors");
  CHECK(weights.names().size() == expected.entries().size());
  for (const TensorEntry& want : expected.entries()) {
    CAPTURE(want.name);
    const TensorEntry* got = weights.find(want.name);
    REQUIRE(got != nullptr);
    CHECK(got->dtype_name == want.dtype_name);
    CHECK(got->dtype == want.dtype);
    CHECK(got->shape == want.shape);
    CHECK(text_of(*got) == text_of(want));
  }
}

}  // namespace

TEST_CASE("what torch.save writes is read as PyTorch means it", "[torch]") {
  const WeightFiles weights = WeightFiles::open(kCase / "views");
  CHECK(weights.source() == kCase / "views" / "pytorch_model.bin");
  check_same(weights);
  check_same(WeightFiles::open(kCase / "shards"));

  const auto at = [&](const char* name) { return weights.find(name)->data; };
  CHECK(at("embed.weight") == at("lm_head.weight"));
  CHECK(at("transposed") == at("transposed.again"));
  CHECK(at("rows") == at("embed.weight") + 6 * sizeof(float));
  const std::span<const std::byte> mapped = weights.find("rows")->file->bytes();
  CHECK(at("rows") > mapped.data());
  CHECK(at("rows") < mapped.data() + mapped.size());
}

TEST_CASE("a model saved as .bin has the bytes of its safetensors", "[torch]") {
  const std::filesystem::path opt = TENON_SOURCE_DIR "/../shared/reference/opt";
  if (!std::filesystem::exists(opt / "model-bin")) {
    WARN("SKIPPED: there is no ../shared/reference/opt");
    return;
  }
  const WeightFiles bin = WeightFiles::open(opt / "model-bin"),
                    safe = WeightFiles::open(opt / "model");
  CHECK(bin.names() == safe.names());
  for (const std::string_view name : safe.names()) {
    CAPTURE(name);
    CHECK(bin.find(name)->dtype == safe.find(name)->dtype);
    CHECK(bin.find(name)->shape == safe.find(name)->shape);
    CHECK(text_of(*bin.find(name)) == text_of(*safe.find(name)));
  }
}

TEST_CASE("an entry of a PyTorch file keeps its bytes alive", "[torch]") {
  std::vector<TensorEntry> kept;
  std::string before;
  {
    const TensorFile file = TensorFile::open(kCase / "views" / "pytorch_model.bin");
    for (const char* name : {"transposed", "rows"}) kept.push_back(*file.find(name));
    before = text_of(kept[0]);
  }
  CHECK(text_of(kept[0]) == before);
  CHECK(text_of(kept[1]).size() == 48);
  CHECK(kept[0].file->path() == kCase / "views" / "pytorch_model.bin");
}

TEST_CASE("archives are read with 64-bit fields, comments and members of others", "[torch]") {
  const TempFolder folder;
  const std::string pickle =
      dict(text("a") + torch_tensor(storage("ByteStorage", "k/0", 4), 1, {2}, {1}));
  const std::vector<test::Member> members = {
      {".hidden", "1"}, {"any name/data.pkl", pickle}, {"any name/data/k/0", "abcd"}};
  for (const bool zip64 : {false, true}) {
    for (const char* comment : {"", "a comment with PK\x05\x06 inside, long enough to be one"}) {
      put_file(folder / "a.bin", zip_of(members, zip64, comment));
      const TensorFile file = TensorFile::open(folder / "a.bin");
      REQUIRE(file.find("a") != nullptr);
      CHECK(text_of(*file.find("a")) == "bc");
    }
  }
}

TEST_CASE("each rule of the archive, broken once", "[torch]") {
  const TempFolder folder;
  const std::string pickle =
      dict(text("a") + torch_tensor(storage("ByteStorage", "0", 4), 0, {4}, {1}));
  const std::string good = torch_file(pickle, "abcd");
  REQUIRE(verdict(folder, good) == "no error");
  const auto patched = [&](std::string_view mark, size_t at, const std::string& bytes) {
    std::string file = good;
    return file.replace(file.find(mark) + at, bytes.size(), bytes);
  };
  const std::string entry = "PK\x01\x02", end = "PK\x05\x06";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {zip_of({{"m/data.pkl", pickle, 8}}), "got it compressed or encrypted (zip method 8)"},
      {zip_of({{"m/data.pkl", pickle, 0, 1}}), "compressed or encrypted"},
      {zip_of({{"data.pkl", pickle}}), "expected a member data.pkl, as torch.save writes it"},
      {zip_of({{"m/n/data.pkl", pickle}}), "expected a member data.pkl"},
      {zip_of({{"m/data.pkl", pickle}, {"m/data/0", "abcd"}, {"m/data/0", "efgh"}}),
       "member \"m/data/0\": expected each name once"},
      {zip_of({{"m/data.pkl", pickle}, {"m/byteorder", "big"}, {"m/data/0", "abcd"}}),
       "expected little-endian tensors"},
      {patched(entry, 24, le(5, 4)), "compressed or encrypted"},
      {patched(entry, 42, le(1, 4)), "expected its header at byte 1, got something else"},
      {patched(entry, 42, le(UINT32_MAX, 4)), "expected its header at byte 4294967295"},
      {patched(entry, 28, le(60'000, 2)), "for an entry of the zip directory"},
      {patched(end, 10, le(4, 2)), "expected an entry of the zip directory"},
      {patched(end, 12, le(1 << 20, 4)), "expected a zip directory within"},
      {patched(end, 16, le(1 << 20, 4)), "expected a zip directory within"},
      {good.substr(0, good.size() - 1), "expected a zip archive's directory at the end"},
      {std::string("\x80\x02\x8a\x0al\xfc\x9c"
                   "F\xf9 j\xa8P\x19.",
                   15),
       "expected a PyTorch file (a zip archive), got a Python pickle (PyTorch before 1.6 wrote"},
      {"<html>", "got a web page"},
      {"", "got an empty file"},
  };
  for (const auto& [bytes, message] : cases) {
    const std::string error = verdict(folder, bytes);
    CAPTURE(message, error);
    CHECK(error.find(message) != std::string::npos);
    CHECK(error.size() < 400);
  }
  // Local sizes are not looked at, and a member that would reach past the file is refused.
  std::string beyond = good;
  const size_t last = beyond.rfind(entry);
  beyond.replace(last + 20, 8, le(1 << 20, 4) + le(1 << 20, 4));
  CHECK(verdict(folder, beyond).find("member \"m/version\": expected 1048576 bytes from") !=
        std::string::npos);
}

TEST_CASE("nothing of a pickle is executed, and what is not a tensor is named", "[torch]") {
  const TempFolder folder;
  const auto error_in = [&](const std::string& pickle) {
    return verdict(folder, torch_file(pickle, "abcdefgh"));
  };
  const std::string bytes = storage("ByteStorage", "0", 8);
  const auto tensor = [&](int64_t offset, const std::vector<int64_t>& shape,
                          const std::vector<int64_t>& strides) {
    return dict(text("a") + torch_tensor(bytes, offset, shape, strides));
  };
  const int64_t large = int64_t{1} << 62;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {dict(text("a") + global("os", "system") + text("rm") + "\x85R"),
       "@55: expected tensors and plain values, got the global \"os.system\""},
      {dict(text("a") + global("__builtin__", "eval")), "the global \"__builtin__.eval\""},
      {dict(text("a") + global("torch._utils", "_rebuild_tensor_v3")), "_rebuild_tensor_v3"},
      {dict(text("a") + global("torch", "ComplexFloatStorage")), "torch.ComplexFloatStorage"},
      {"\x80\x02" + global("a\nb", "c") + ".", "the global \"a.b\""},
      {"\x80\x02" + ("c" + std::string(300, 'm')) + "\n\n.", "a line of at most 200 bytes"},
      {"\x80\x02(i__main__\nX\n.", "an opcode of a pickle as torch.save writes it"},
      {"\x80\x04\x95" + le(0, 8) + "}.", "got FRAME"},
      {"\x80\x02)\x81.", "got NEWOBJ"},
      {"\x80\x02\xff.", "got 0xff"},
      {"\x80\x09}.", "a pickle of protocol 2, got 9"},
      {"\x80\x02}", "expected 1 more bytes in the pickle"},
      {"\x80\x02X" + le(UINT32_MAX, 4) + ".", "expected 4294967295 more bytes"},
      {"\x80\x02\x8a\x09" + std::string(9, 'x') + ".", "an integer of at most 8 bytes, got 9"},
      {"\x80\x02.", "a value on the stack, got none"},
      {"\x80\x02}(.", "a value on the stack, got none"},
      {"\x80\x02}}.", "got 1 more and 0 bytes"},
      {"\x80\x02}.}", "got 0 more and 1 bytes"},
      {"\x80\x02}u.", "a mark on the stack, got none"},
      {"\x80\x02N\x86.", "2 values on the stack, got fewer"},
      {"\x80\x02}(Nu.", "a value for each key"},
      {"\x80\x02](NNu.", "a dict to put values in, got a list"},
      {"\x80\x02})a.", "a list to put values in, got a dict"},
      {"\x80\x02h\x07.", "a memo that was set, got 7"},
      {"\x80\x02}r" + le(UINT32_MAX, 4) + ".", "a memo below 4000000, got 4294967295"},
      {"\x80\x02})R.", "a global and a tuple of arguments, got a dict and a tuple"},
      {"\x80\x02" + global("collections", "OrderedDict") + "N\x85R.", "without arguments"},
      {"\x80\x02)}b.", "attributes of a dict, got some of a tuple"},
      {"\x80\x02K\x01.", "expected a dict of tensors, got an integer"},
      {dict("K\x01" + torch_tensor(bytes, 0, {1}, {1})), "the name of a tensor, got an integer"},
      {dict(text("a") + "K\x01"), " tensor \"a\": expected a tensor, got an integer"},
      {dict(text("state_dict") + "}"), " tensor \"state_dict\": expected a tensor, got a dict"},
      {dict(text("a") + global("torch._utils", "_rebuild_parameter") + ")R"),
       "expected a tensor, got a call"},
      {dict(text("a") + global("torch._utils", "_rebuild_tensor_v2") + ")R"),
       "storage, offset, shape and strides, got 0 values"},
      {dict(text("a") + torch_tensor("N", 0, {1}, {1})), "a tensor's storage, got None"},
      {dict(text("a") + torch_tensor("NQ", 0, {1}, {1})), "what a storage is in a tuple, got None"},
      {dict(text("a") + torch_tensor(")Q", 0, {1}, {1})), "type, key, device and size, got 0"},
      {dict(text("a") + torch_tensor(storage("ByteStorage", "1", 8), 0, {1}, {1})),
       "a member data/1 with the bytes of a storage, got none"},
      {dict(text("a") + torch_tensor(storage("ByteStorage", "0", 9), 0, {1}, {1})),
       "expected 9 elements of U8 in data/0, got 8 bytes"},
      {dict(text("a") + torch_tensor(storage("LongStorage", "0", 2), 0, {1}, {1})),
       "expected 2 elements of I64 in data/0, got 8 bytes"},
      {tensor(0, {9}, {1}), "a view of 8 elements, got offset 0, shape [9], strides [1]"},
      {tensor(8, {1}, {1}), "got offset 8, shape [1]"},
      {tensor(-1, {1}, {1}), "got offset -1"},
      {dict(text("a") + global("torch._utils", "_rebuild_tensor_v2") + "(" + bytes +
            "\x8a\x01\xff" + tuple({1}) + tuple({1}) + "\x89" +
            global("collections", "OrderedDict") + ")RtR"),
       "got offset -1"},  // of one byte
      {tensor(0, {2, 2}, {7, 1}), "shape [2, 2], strides [7, 1]"},
      {tensor(0, {-1}, {1}), "a shape of 0 or more, got -1"},
      {tensor(0, {2}, {-1}), "strides of 0 or more, got -1"},
      {tensor(0, {2, 2}, {1}), "as many strides, got 2 and 1"},
      {tensor(0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1)), "at most 64 dims"},
      {tensor(0, {large, large}, {1, 1}), "a view of 8 elements"},
      {tensor(large, {large}, {large}), "a view of 8 elements"},
      {tensor(0, {1 << 20}, {0}), "got views that repeat its"},
      {dict(text("a") + torch_tensor(bytes, 0, {1}, {1}) + text("a") +
            torch_tensor(bytes, 0, {1}, {1})),
       "each name once, got \"a\" twice"},
      {dict(text("\xff") + torch_tensor(bytes, 0, {1}, {1})), "a name of UTF-8 text"},
      {dict(text(std::string_view("a\0", 2)) + "N"), "a name of UTF-8 text without NUL"},
      {dict(text("__metadata__") + "N"), "got \"__metadata__\""},
  };
  for (const auto& [pickle, message] : cases) {
    const std::string error = error_in(pickle);
    CAPTURE(message, error);
    CHECK(error.find(message) != std::string::npos);
    CHECK(error.find('\n') == std::string::npos);
    CHECK(error.size() < 400);
  }
  CHECK(error_in(tensor(7, {1, 1}, {0, 99})) == "no error");  // strides of single elements
  CHECK(error_in(tensor(99, {0, 5}, {5, 1})) == "no error");  // nothing is looked at
}

TEST_CASE("a pickle is bounded in memory and does not recurse", "[torch]") {
  const TempFolder folder;
  const auto error_in = [&](const std::string& pickle) {
    return verdict(folder, torch_file(pickle));
  };
  const size_t many = 5'000'000;
  CHECK(error_in("\x80\x02" + std::string(many, '}')).find("at most 1000000 values") !=
        std::string::npos);
  CHECK(error_in("\x80\x02" + std::string(many, 'N')).find("a stack of at most 1000000") !=
        std::string::npos);
  CHECK(error_in("\x80\x02" + std::string(many, '(')).find("at most 1000000 marks") !=
        std::string::npos);
  std::string turns = "\x80\x02]";
  for (size_t i = 0; i < many; ++i) turns += "Na";
  CHECK(error_in(turns).find("at most 4000000 opcodes") != std::string::npos);
  // A tuple in a tuple in a tuple, and a dict that holds itself.
  CHECK(error_in("\x80\x02)" + std::string(900'000, '\x85') + ".").find("a dict of tensors") !=
        std::string::npos);
  CHECK(error_in("\x80\x02}q\x01(" + text("a") + "h\x01u.").find("a tensor, got a dict") !=
        std::string::npos);
}

TEST_CASE("a PyTorch file cut short is refused, and with flipped bits refused or read", "[torch]") {
  const TempFolder folder;
  const std::string good = get_file(kCase / "views" / "pytorch_model.bin");
  REQUIRE(verdict(folder, good) == "no error");
  for (size_t length = 0; length < good.size(); ++length)
    CHECK(verdict(folder, good.substr(0, length)) != "no error");

  std::mt19937 random(7);
  int accepted = 0;
  constexpr int kFlips = 4000;
  for (int i = 0; i < kFlips; ++i) {
    std::string flipped = good;
    for (int k = 0; k <= i % 3; ++k) {
      char& byte = flipped[random() % flipped.size()];
      byte = static_cast<char>(byte ^ (1 << random() % 8));
    }
    accepted += verdict(folder, flipped) == "no error";
  }
  CHECK(accepted > 0);  // bits of the tensors themselves, and of padding
  CHECK(accepted < kFlips);
}

TEST_CASE("shards of PyTorch are found through their index", "[torch]") {
  const TempFolder folder;
  std::filesystem::copy(kCase / "shards", folder.path());
  const auto index = folder / "pytorch_model.bin.index.json";
  const std::string good = get_file(index);
  const auto fault = [&] { return error_of([&] { WeightFiles::open(folder.path()); }); };
  CHECK(fault() == "no error");

  std::string other = good;
  other.replace(other.find(".bin\""), 4, ".pt");
  put_file(index, other);
  CHECK(fault().find("expected the name of a .bin file beside the index") != std::string::npos);
  std::string renamed = good;
  renamed.replace(renamed.find("\"rows\""), 6, "\"rosw\"");
  put_file(index, renamed);
  CHECK(fault().find("tensors missing from their shard: \"rosw\"") != std::string::npos);
  for (size_t length = 0; length < good.size() - 2; ++length) {
    put_file(index, good.substr(0, length));
    CHECK(fault().starts_with("2: "));
  }
  std::mt19937 random(11);
  for (int i = 0; i < 500; ++i) {
    std::string flipped = good;
    char& byte = flipped[random() % flipped.size()];
    byte = static_cast<char>(byte ^ (1 << random() % 8));
    put_file(index, flipped);
    const std::string error = fault();
    CHECK((error == "no error" || error.starts_with("2: ")));
  }
  put_file(index, good);

  // Safetensors are preferred, and a single file to shards.
  std::filesystem::copy(kCase / "views" / "pytorch_model.bin", folder.path());
  CHECK(WeightFiles::open(folder.path()).source() == folder / "pytorch_model.bin");
  std::filesystem::copy(kCase / "views.safetensors", folder / "model.safetensors");
  const WeightFiles weights = WeightFiles::open(folder.path());
  CHECK(weights.source() == folder / "model.safetensors");
  REQUIRE(weights.notes().size() == 1);
  CHECK(weights.notes()[0].ends_with(
      "has model.safetensors and pytorch_model.bin and pytorch_model.bin.index.json: took the "
      "first"));
}
