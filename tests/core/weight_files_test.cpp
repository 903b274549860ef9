// SPDX-License-Identifier: Apache-2.0
#include "core/weight_files.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "tests/core/safetensors_bytes.h"
#include "tests/core/temp_folder.h"

using namespace tenon;
using test::error_of;
using test::file_of;
using test::get_file;
using test::header_of;
using test::message;
using test::put_file;
using test::TempFolder;
using test::tensor;
using test::text_of;

namespace {

// A folder with two shards: a and b in the first, c in the second.
void put_shards(const std::filesystem::path& folder, std::string_view index = "") {
  const std::string one = "model-00001-of-00002.safetensors",
                    two = "model-00002-of-00002.safetensors";
  put_file(
      folder / one,
      file_of(header_of({tensor("a", "U8", "[1]", "[0,1]"), tensor("b", "U8", "[2]", "[1,3]")}),
              "ABB"));
  put_file(folder / two, file_of(header_of({tensor("c", "U8", "[3]", "[0,3]")}), "CCC"));
  put_file(folder / "model.safetensors.index.json",
           index.empty() ? "{\"metadata\":{\"total_size\":6},\"weight_map\":{\"a\":\"" + one +
                               "\",\"b\":\"" + one + "\",\"c\":\"" + two + "\"}}"
                         : std::string(index));
}

std::string index_fault(const TempFolder& folder, std::string_view index) {
  put_shards(folder.path(), index);
  const std::string error = error_of([&] { WeightFiles::open(folder.path()); });
  const std::string start = message(2, folder / "model.safetensors.index.json", "");
  CAPTURE(error);
  REQUIRE(error.starts_with(start));
  return error.substr(start.size());
}

}  // namespace

TEST_CASE("a model folder is read, single or in shards", "[weights]") {
  const TempFolder folder;
  put_shards(folder.path());
  {
    const WeightFiles weights = WeightFiles::open(folder.path());
    CHECK(weights.names() == std::vector<std::string_view>{"a", "b", "c"});
    CHECK(text_of(*weights.find("b")) == "BB");
    CHECK(weights.find("c")->file->path() == folder / "model-00002-of-00002.safetensors");
    CHECK(weights.find("d") == nullptr);
    CHECK(weights.total_bytes() == 6);
    CHECK(weights.source() == folder / "model.safetensors.index.json");
    CHECK(weights.notes().empty());
  }
  put_file(folder / "model.safetensors",
           file_of(header_of({tensor("z", "U8", "[1]", "[0,1]")}), "Z"));
  const WeightFiles weights = WeightFiles::open(folder.path());
  CHECK(weights.source() == folder / "model.safetensors");
  CHECK(weights.names() == std::vector<std::string_view>{"z"});
  REQUIRE(weights.notes().size() == 1);
  CHECK(weights.notes()[0] ==
        shown(folder.path()) +
            ": has model.safetensors and model.safetensors.index.json: took the first");
  CHECK(WeightFiles::open(folder / "model-00002-of-00002.safetensors").find("c") !=
        nullptr);  // a file itself
}

TEST_CASE("a tensor that the index does not name is one all the same, but not twice", "[weights]") {
  const TempFolder folder;
  const std::string start =
      "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\",\"c\":"
      "\"model-00002-of-00002.safetensors\"}}";
  put_shards(folder.path(), start);
  CHECK(text_of(*WeightFiles::open(folder.path()).find("b")) == "BB");
  put_file(
      folder / "model-00002-of-00002.safetensors",
      file_of(header_of({tensor("b", "U8", "[1]", "[0,1]"), tensor("c", "U8", "[1]", "[1,2]")}),
              "BC"));
  CHECK_THAT(error_of([&] { WeightFiles::open(folder.path()); }),
             Catch::EndsWith("got tensors that also lie in another shard: \"b\""));
}

TEST_CASE("an index that disagrees with its shards is refused with all names", "[weights]") {
  const TempFolder folder;
  const std::string one = "\"model-00001-of-00002.safetensors\"",
                    two = "\"model-00002-of-00002.safetensors\"";
  const auto map = [](const std::string& members) { return "{\"weight_map\":{" + members + "}}"; };
  put_shards(folder.path(), "nonsense");
  CHECK(error_of([&] {
          WeightFiles::open(folder.path());
        }).find("index.json:1:2: invalid JSON: ") != std::string::npos);
  CHECK(index_fault(folder, "{}") ==
        "field \"weight_map\": expected an object, got nothing (the field is missing)");
  CHECK(index_fault(folder, map("")) ==
        "field \"weight_map\": expected at least one tensor, got an object");
  CHECK(index_fault(folder, map("\"a\":7")) == "field \"weight_map.a\": expected a string, got 7");
  CHECK(index_fault(folder, map("\"a\":" + one + ",\"b\":" + one + ",\"c\":\"no.safetensors\"")) ==
        "expected all shards, missing \"no.safetensors\"");
  CHECK(index_fault(folder, map("\"a\":" + one + ",\"b\":" + one + ",\"c\":" + two +
                                ",\"d\":" + two + ",\"e\":" + one)) ==
        "expected index and shards to agree, got tensors missing from their shard: \"d\", \"e\"");
  CHECK(index_fault(folder, map("\"a\":" + one + ",\"b\":" + two + ",\"c\":" + two)) ==
        "expected index and shards to agree, got tensors missing from their shard: \"b\"; tensors "
        "that also lie in another "
        "shard: \"b\"");
  std::string many = "\"x0\":" + one;
  for (int i = 1; i < 9; ++i) many += fmt::format(",\"x{}\":{}", i, one);
  CHECK(index_fault(folder, map("\"a\":" + one + ",\"b\":" + one + ",\"c\":" + two + "," + many))
            .ends_with("\"x0\", \"x1\", \"x2\", \"x3\", \"x4\" and 4 more"));
  std::string shards = "\"x0\":\"0.safetensors\"";
  for (int i = 1; i < 10'001; ++i) shards += fmt::format(",\"x{}\":\"{}.safetensors\"", i, i);
  CHECK(index_fault(folder, map(shards)) == "expected at most 10000 shards, got 10001");
}

TEST_CASE("an index cannot lead out of its folder", "[weights]") {
  const TempFolder folder;
  const std::string too_long(300, 'n');
  for (const std::string& name :
       {std::string("../x.safetensors"), std::string("/etc/x.safetensors"),
        std::string("a/b.safetensors"), std::string("C:\\\\x.safetensors"), std::string(""),
        std::string("."), std::string("x\\u0000.safetensors"), too_long + ".safetensors",
        std::string("https://h/x.safetensors"), std::string("pytorch_model.bin")}) {
    CAPTURE(name);
    CHECK(index_fault(folder, "{\"weight_map\":{\"a\":\"" + name + "\"}}")
              .find("expected the name of a .safetensors file beside the index") !=
          std::string::npos);
  }
  const TempFolder elsewhere;
  put_shards(folder.path());
  const auto two = folder / "model-00002-of-00002.safetensors";
  std::filesystem::rename(two, elsewhere / "c");
  std::filesystem::create_symlink(elsewhere / "c", two);
  CHECK(error_of([&] {
          WeightFiles::open(folder.path());
        }).find("got links out of it: \"model-00002") != std::string::npos);

  // The layout of the Hugging Face cache: snapshots/<revision>/NAME -> ../../blobs/<hash>.
  const auto snapshot = elsewhere / "snapshots" / "1234";
  std::filesystem::create_directories(snapshot);
  std::filesystem::create_directories(elsewhere / "blobs");
  put_shards(snapshot);
  for (const char* name : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                           "model.safetensors.index.json"}) {
    std::filesystem::rename(snapshot / name, elsewhere / "blobs" / name);
    std::filesystem::create_symlink(std::filesystem::path("../../blobs") / name, snapshot / name);
  }
  CHECK(error_of([&] { WeightFiles::open(snapshot); }) == "no error");
}

TEST_CASE("a wrong total size is noted, not fatal", "[weights]") {
  const TempFolder folder;
  put_shards(folder.path(),
             "{\"metadata\":{\"total_size\":7},\"weight_map\":{\"a\":\"model-00001-of-00002."
             "safetensors\",\"b\":"
             "\"model-00001-of-00002.safetensors\",\"c\":\"model-00002-of-00002.safetensors\"}}");
  const WeightFiles weights = WeightFiles::open(folder.path());
  REQUIRE(weights.notes().size() == 1);
  CHECK(weights.notes()[0].ends_with("metadata.total_size is 7, the shards have 6 bytes"));
}

TEST_CASE("a folder without safetensors says what it has", "[weights]") {
  const TempFolder folder;
  const auto fault = [&] { return error_of([&] { WeightFiles::open(folder.path()); }); };
  CHECK(
      fault() ==
      message(2, folder.path(),
              "expected model.safetensors or model.safetensors.index.json or pytorch_model.bin or "
              "pytorch_model.bin.index.json, got none"));
  put_file(folder / "m.gguf", "GGUF");
  CHECK(fault().find("got only m.gguf: GGUF is not read") != std::string::npos);
  put_file(folder / "pytorch_model.bin", "PK");
  put_file(folder / "pytorch_model.bin", "PK");
  CHECK(
      fault().ends_with("pytorch_model.bin: expected a PyTorch file (a zip archive), got "
                        "something else"));
  CHECK(error_of([&] { WeightFiles::open(folder / "none"); }).find("got nothing of that name") !=
        std::string::npos);
  std::filesystem::create_symlink("gone", folder / "model.safetensors");
  CHECK(fault().find("a dangling symbolic link") != std::string::npos);
}

TEST_CASE("tensors are written in shards with an index, and read back", "[weights]") {
  const TempFolder folder;
  const std::string bytes = "0123456789";
  std::vector<TensorToWrite> tensors;
  for (const char* name : {"d", "c", "b", "a"})
    tensors.push_back({name, DType::kU8, {2, 5}, bytes.data()});
  tensors.push_back({"large", DType::kF32, {1}, bytes.data()});

  const std::vector<WrittenFile> written = write_sharded(folder.path(), tensors, 20);
  REQUIRE(written.size() == 4);
  CHECK(written[0].path == folder / "model-00001-of-00003.safetensors");
  CHECK(written[3].path == folder / "model.safetensors.index.json");
  for (const WrittenFile& file : written) {
    CHECK(file.hash == hash_file(file.path));
    CHECK(file.bytes == static_cast<int64_t>(std::filesystem::file_size(file.path)));
  }
  CHECK(get_file(written[3].path) == R"({
  "metadata": {
    "total_parameters": 41,
    "total_size": 44
  },
  "weight_map": {
    "a": "model-00002-of-00003.safetensors",
    "b": "model-00002-of-00003.safetensors",
    "c": "model-00001-of-00003.safetensors",
    "d": "model-00001-of-00003.safetensors",
    "large": "model-00003-of-00003.safetensors"
  }
}
)");
  const WeightFiles weights = WeightFiles::open(folder.path());
  CHECK(weights.names().size() == 5);
  CHECK(weights.notes().empty());
  CHECK(text_of(*weights.find("a")) == bytes);
  CHECK(folder.entries() == 4);
  CHECK(error_of([&] {
          write_sharded(folder.path(), tensors);
        }).find("expected a folder without weights") != std::string::npos);

  const TempFolder single;
  REQUIRE(write_sharded(single.path(), tensors, 44).size() == 1);
  CHECK(WeightFiles::open(single.path()).source() == single / "model.safetensors");
  const TempFolder each;  // a tensor above the limit has a shard of its own
  CHECK(write_sharded(each.path(), tensors, 3).size() == 6);
}

TEST_CASE("tensors may be made when they are written, one at a time", "[weights]") {
  const TempFolder folder;
  int alive = 0, most = 0;
  std::vector<TensorToWrite> tensors, made;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};
  for (const char* name : {"c", "a", "b", "d"}) {
    tensors.push_back({name, DType::kF32, {2, 4}, values.data()});
    made.push_back({name, DType::kF32, {2, 4}, nullptr, [&] {
                      most = std::max(most, ++alive);
                      const std::shared_ptr<const void> owner(&values,
                                                              [&](const void*) { --alive; });
                      return Tensor::borrow(values.data(), {8}, DType::kF32, owner);
                    }});
  }
  for (const int64_t limit : {int64_t{64}, kShardBytes}) {
    const auto there = folder / fmt::format("there{}", limit),
               later = folder / fmt::format("{}", limit);
    std::filesystem::create_directories(there);
    std::filesystem::create_directories(later);
    const std::vector<WrittenFile> a = write_sharded(there, tensors, limit),
                                   b = write_sharded(later, made, limit);
    REQUIRE(a.size() == b.size());
    for (size_t i = 0; i < a.size(); ++i) CHECK(a[i].hash == b[i].hash);
  }
  CHECK(alive == 0);
  CHECK(most == 1);

  // As the dtypes of the format that Tenon has none for; not with other bytes than the shape says.
  write_safetensors(folder / "x",
                    std::vector<TensorToWrite>{{"mask", DType::kU8, {2}, "\0\1", {}, "BOOL"},
                                               {"wide", DType::kU8, {1}, values.data(), {}, "F64"},
                                               {"bits", DType::kU8, {2}, "x", {}, "F4"}});
  const SafetensorsFile file = SafetensorsFile::open(folder / "x");
  CHECK(file.find("mask")->dtype_name == "BOOL");
  CHECK(file.find("wide")->bytes == 8);
  CHECK(file.find("bits")->bytes == 1);
  CHECK(file.entries()[0].name == "wide");
  made[0].shape = {9};
  CHECK(error_of([&] {
          write_safetensors(folder / "y", made);
        }).find("expected 36 bytes, got 32") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder / "y"));
}
