// SPDX-License-Identifier: Apache-2.0
#include "core/json.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "tests/core/temp_folder.h"

using namespace tenon;
using test::error_of;

namespace {

std::string verdict(std::string_view text) {
  return error_of([&] { parse_json(text, "f"); });
}

std::string repeat(std::string_view text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace

TEST_CASE("what is JSON is read as it is", "[json]") {
  const Json json =
      parse_json(" {\"a\": [1, -2, 1.5e3, true, null, \"\\u00e9\\n\"], \"b\": {}} \n", "f");
  CHECK(json.dump() == "{\"a\":[1,-2,1500.0,true,null,\"\xC3\xA9\\n\"],\"b\":{}}");
  CHECK(parse_json("18446744073709551615", "f").get<uint64_t>() == UINT64_MAX);
  CHECK(parse_json("-9223372036854775808", "f").get<int64_t>() == INT64_MIN);
  CHECK(parse_json("\"\\ud83d\\ude00\"", "f").get<std::string>() == "\xF0\x9F\x98\x80");
  for (const char* text :
       {"null", "0", "-0", "\"\"", "[]", "[[]]", "[{\"a\":[{}]}]", "1e-400", "\t\r\n 1 "}) {
    CHECK(verdict(text) == "no error");
  }
  CHECK(verdict(repeat("[", kJsonDepth) + repeat("]", kJsonDepth)) == "no error");
  CHECK(verdict("{\"a\":{\"a\":1},\"b\":{\"a\":1}}") ==
        "no error");  // one name in different objects
}

TEST_CASE("the order of keys may be kept, however many there are", "[json]") {
  std::string text = "{";
  for (int i = 99; i >= 0; --i) text += fmt::format("\"{}\":{{\"b\":1,\"a\":[2]}},", i);
  text.back() = '}';
  CHECK(parse_ordered_json(text, "f").dump() == text);
  CHECK(parse_json("{\"b\":1,\"a\":2}", "f").dump() == "{\"a\":2,\"b\":1}");
  for (const char* again : {"99", "84", "83", "0"}) {  // on both sides of where names become a set
    const std::string twice = text.substr(0, text.size() - 1) + ",\"" + again + "\":1}";
    CHECK_THAT(error_of([&] { parse_ordered_json(twice, "f"); }),
               Catch::Contains("expected each key once, got \"" + std::string(again) + "\" twice"));
  }
  CHECK_THAT(error_of([] { parse_ordered_json("{\"a\":1,\"a\":2}", "f"); }),
             Catch::Contains("got \"a\" twice"));
}

TEST_CASE("a fault is named with its place", "[json]") {
  CHECK(verdict("{\"a\": 1,\n \"b\" 2}") ==
        "2: f:2:6: invalid JSON: expected ':', got number literal");
  CHECK(verdict("{\"a\":1,}") ==
        "2: f:1:8: invalid JSON: expected a string in double quotes, got '}'");
  CHECK(verdict("[1,]") == "2: f:1:4: invalid JSON: expected a value, got ']'");
  CHECK(verdict("[1 2]") == "2: f:1:4: invalid JSON: expected ',' or ']', got number literal");
  CHECK(verdict("{\"a\":1") ==
        "2: f:1:7: invalid JSON: expected ',' or '}', got the end of the text");
  CHECK(verdict("{} x") ==
        "2: f:1:4: invalid JSON: expected the end of the text, got invalid literal at \"x\"");
  CHECK(verdict("tru") ==
        "2: f:1:4: invalid JSON: expected a value, got invalid literal at \"tru\"");
  CHECK(verdict("") == "2: f: invalid JSON: expected a value, got nothing (empty)");
  CHECK(verdict(" ") == "2: f:1:2: invalid JSON: expected a value, got the end of the text");
  CHECK(verdict("{\"n\": 1,\n\"n\": 2}") ==
        "2: f:2:3: invalid JSON: expected each key once, got \"n\" twice");
  CHECK(verdict("{\"a\":[{\"n\":1,\"\\u006e\":2}]}").find("got \"n\" twice") != std::string::npos);
}

TEST_CASE("Python's numbers that are no JSON are named", "[json]") {
  const std::string end = " (Python writes it, JSON has none)";
  CHECK(verdict("{\"a\":\n NaN}") ==
        "2: f:2:2: invalid JSON: expected a finite number, got NaN" + end);
  CHECK(verdict("[Infinity]") ==
        "2: f:1:2: invalid JSON: expected a finite number, got Infinity" + end);
  CHECK(verdict("[-Infinity]") ==
        "2: f:1:3: invalid JSON: expected a finite number, got Infinity" + end);
  CHECK(verdict("[1e400]") ==
        "2: f:1:6: invalid JSON: expected a number that fits 64 bits, got '1e400'");
  CHECK(verdict("Nan").find("invalid literal") != std::string::npos);
}

TEST_CASE("other encodings, byte order marks and NUL are named", "[json]") {
  CHECK(verdict("\xEF\xBB\xBF{}") ==
        "2: f: invalid JSON: expected UTF-8 without a byte order mark, got one");
  CHECK(verdict(std::string_view("\xFF\xFE{\0}\0", 6)) ==
        "2: f: invalid JSON: expected UTF-8, got UTF-16");
  CHECK(verdict(std::string_view("\0{\0}", 4)) == "2: f: invalid JSON: expected UTF-8, got UTF-16");
  CHECK(verdict(std::string_view("{}\0garbage", 10)) ==
        "2: f:1:3: invalid JSON: expected text, got a NUL byte");
  CHECK(verdict("[\"a\xFF\"]") ==
        "2: f:1:4: invalid JSON: expected a value, got invalid string: ill-formed UTF-8 byte at "
        "\"\"a\\xff\"");
}

TEST_CASE("no byte of a text reaches a message as it is", "[json]") {
  CHECK(verdict("[-\x9b]") ==
        "2: f:1:3: invalid JSON: expected digit after '-', got invalid number at \"-\\x9b\"");
  CHECK(verdict("[1.\x1b") ==
        "2: f:1:4: invalid JSON: expected digit after '.', got invalid number at \"1.\\x1b\"");
  CHECK(verdict("[1e\xff]") ==
        "2: f:1:4: invalid JSON: expected '+', '-', or digit after exponent, got invalid number at "
        "\"1e\\xff\"");
  CHECK(verdict("[1] -") ==
        "2: f:1:6: invalid JSON: expected digit after '-', got invalid number at \"-\"");
  // In every place of a text, and behind words that look like the library's own.
  for (const char* before : {"", "-", "1.", "1e", "1e+", "tr", "\"", "\"\\", "\"\\u", "[", "{",
                             "\"'; expected ", "\"; last read: '", "\"while parsing "}) {
    for (int byte = 1; byte < 256; ++byte) {
      const std::string message = verdict(std::string("[") + before + static_cast<char>(byte));
      CAPTURE(message);
      CHECK(message == printable(message, 1000));
    }
  }
}

TEST_CASE("what is not JSON is refused", "[json]") {
  for (const char* text : {"{",
                           "}",
                           "[",
                           "]",
                           "{]",
                           "[}",
                           "{1:2}",
                           "{'a':1}",
                           "{a:1}",
                           "[01]",
                           "[+1]",
                           "[.5]",
                           "[1.]",
                           "[1e]",
                           "[0x1]",
                           "[--1]",
                           "\"",
                           "\"\n\"",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"\\ud800\\u0041\"",
                           "[1,,2]",
                           "[,1]",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{,}",
                           "nul",
                           "True",
                           "None",
                           "undefined",
                           "//c\n1",
                           "/*c*/1",
                           "1 1",
                           "\"\xC0\xAF\"",
                           "\"\xED\xA0\x80\"",
                           "\"\xF4\x90\x80\x80\"",
                           "\"\xE2\x82\"",
                           "\xC2\xA0"
                           "1"}) {
    CAPTURE(text);
    CHECK(verdict(text).starts_with("2: f:1:"));
  }
}

TEST_CASE("deep nesting is refused", "[json]") {
  for (const char* open : {"[", "{\"a\":"}) {
    CHECK(verdict(repeat(open, kJsonDepth + 1)).find("at most 256 levels of nesting") !=
          std::string::npos);
    CHECK(verdict(repeat(open, 1'000'000)).find("at most 256 levels of nesting") !=
          std::string::npos);
  }
}

TEST_CASE("every prefix and every bit flip of a text gives a value or an error", "[json]") {
  const std::string text = "{\"a\":[1,-2.5e3,true,null,\"x\\n\xC3\xA9\"],\"b\":{\"c\":{}}}";
  for (size_t length = 0; length < text.size(); ++length) {
    CHECK(verdict(text.substr(0, length)).starts_with("2: f:"));
  }
  for (size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const std::string result = verdict(flipped);
    CHECK((result == "no error" || result.starts_with("2: f:")));
  }
}

TEST_CASE("members are handed over one at a time", "[json]") {
  std::vector<std::string> seen;
  const std::string text = "{\"a\":1,\"b\":{\"x\":[1,{\"y\":2}]},\"a\":[],\"c\":\"t\"}";
  parse_json_members(text, "f", [&](std::string& name, Json& value, int64_t byte) {
    seen.push_back(name + "=" + value.dump());
    CHECK(text[static_cast<size_t>(byte) - 1] == '"');
  });
  CHECK(seen == std::vector<std::string>{"a=1", "b={\"x\":[1,{\"y\":2}]}", "a=[]", "c=\"t\""});
  const auto ignore = [](std::string&, Json&, int64_t) {};
  CHECK(error_of([&] { parse_json_members("{}", "f", ignore); }) == "no error");
  std::string half = "[";
  half += repeat("0,", kJsonMemberValues / 2) + "0]";
  CHECK(error_of([&] {
          parse_json_members("{\"a\":" + half + ",\"b\":" + half + "}", "f", ignore);
        }) == "no error");
  CHECK(error_of([&] {
          parse_json_members("{\"a\":[" + half + "," + half + "]}", "f", ignore);
        }).find("at most 100000 values in one member") != std::string::npos);
  CHECK(error_of([&] { parse_json_members("[1]", "f", ignore); }) ==
        "2: f: expected a JSON object, got a list");
  CHECK(error_of([&] { parse_json_members("3", "f", ignore); }) ==
        "2: f: expected a JSON object, got 3");
}

TEST_CASE("a file is read up to its limit", "[json]") {
  const test::TempFolder folder;
  const auto path = test::put_file(folder / "c.json", "{\"a\": 1}");
  CHECK(parse_json_file(path)["a"] == 1);
  CHECK(parse_json_file(path, 8)["a"] == 1);
  CHECK(error_of([&] { parse_json_file(path, 7); }) ==
        test::message(2, path, "expected at most 7 bytes, got 8"));
  // Settings are small, whatever a file of them claims to be; nothing of it is read.
  const auto large = test::put_file(folder / "config.json", "");
  std::filesystem::resize_file(large, uint64_t{1} << 30);
  CHECK(error_of([&] { JsonObject::read(large); }) ==
        test::message(2, large, "expected at most 16777216 bytes, got 1073741824"));
  CHECK(error_of([&] { JsonObject::read(test::put_file(folder / "l.json", "[]")); }) ==
        test::message(2, folder / "l.json", "expected a JSON object, got a list"));
}

TEST_CASE("integers are integers within bounds", "[json]") {
  const JsonObject o(
      parse_json(
          R"({"ok": 12, "zero": 0, "neg": -1, "half": 1.5, "whole": 12.0, "text": "32", "yes": true,
                                    "null": null, "big": 2147483648, "huge": 9223372036854775808, "far": 1e308})",
          "f"),
      "f");
  CHECK(o.integer("ok", 1, 65536) == 12);
  CHECK(o.integer("ok", 12, 12) == 12);
  CHECK(o.integer("absent", 1, 5, 3) == 3);
  CHECK(o.integer("ok", 1, 65536, 3) == 12);
  CHECK(o.optional_integer("null", 1, 5) == std::nullopt);
  CHECK(o.optional_integer("absent", 1, 5) == std::nullopt);
  CHECK(o.optional_integer("neg", -1, 5) == -1);
  const auto fault = [&](const char* key) { return error_of([&] { o.integer(key, 1, 65536); }); };
  const auto want = [](const char* key, const char* got) {
    return std::string("2: f: field \"") + key + "\": expected an integer in 1..65536, got " + got;
  };
  CHECK(fault("text") == want("text", "\"32\""));
  CHECK(fault("zero") == want("zero", "0"));
  CHECK(fault("neg") == want("neg", "-1"));
  CHECK(fault("half") == want("half", "1.5"));
  CHECK(fault("whole") == want("whole", "12.0"));
  CHECK(fault("yes") == want("yes", "true"));
  CHECK(fault("null") == want("null", "null"));
  CHECK(fault("big") == want("big", "2147483648"));
  CHECK(fault("huge") == want("huge", "9223372036854775808"));
  CHECK(fault("far") == want("far", "1e+308"));
  CHECK(fault("absent") == want("absent", "nothing (the field is missing)"));
  CHECK(error_of([&] { o.integer("null", 1, 5, 3); }).find("got null") != std::string::npos);
  CHECK(error_of([&] { o.integer("huge", 1, INT64_MAX); }).find("got 9223372036854775808") !=
        std::string::npos);
}

TEST_CASE("the other fields are checked alike", "[json]") {
  const JsonObject o(
      parse_json(
          R"({"rate": 0.1, "one": 1, "yes": true, "name": "gpt2", "ids": [1, 2], "id": 7, "null": null,
                                    "bad": [1, "x"], "in": {"n": "y\u001b", "deep": {}}, "list": []})",
          "f"),
      "f");
  CHECK(o.number("rate", 0, 1) == 0.1);
  CHECK(o.number("one", 0, 1) == 1.0);
  CHECK(o.number("absent", 0, 1, 0.5) == 0.5);
  CHECK(o.optional_number("null", 0, 1) == std::nullopt);
  CHECK(error_of([&] { o.number("id", 0, 1); }) ==
        "2: f: field \"id\": expected a number in 0..1, got 7");
  CHECK(error_of([&] { o.number("yes", 0, 1); }) ==
        "2: f: field \"yes\": expected a number in 0..1, got true");
  CHECK(o.boolean("yes"));
  CHECK_FALSE(o.boolean("absent", false));
  CHECK(error_of([&] { o.boolean("one"); }) ==
        "2: f: field \"one\": expected true or false, got 1");
  CHECK(o.text("name") == "gpt2");
  CHECK(o.text("absent", "x") == "x");
  CHECK(o.optional_text("null") == std::nullopt);
  CHECK(error_of([&] { o.text("ids"); }) == "2: f: field \"ids\": expected a string, got a list");
  CHECK(o.choice("name", {"gpt2", "llama"}) == "gpt2");
  CHECK(o.choice("absent", {"gpt2"}, "gpt2") == "gpt2");
  CHECK(error_of([&] {
          o.choice("name", {"gpt3", "llama"});
        }) ==
        "2: f: field \"name\": expected one of gpt3, llama, got \"gpt2\" (did you mean gpt3?)");
  CHECK(error_of([&] { o.choice("one", {"gpt3"}); }) ==
        "2: f: field \"one\": expected one of gpt3, got 1");
  CHECK(o.integers("ids", 0, 9) == std::vector<int64_t>{1, 2});
  CHECK(o.integers("id", 0, 9) == std::vector<int64_t>{7});
  CHECK(o.integers("null", 0, 9).empty());
  CHECK(error_of([&] { o.integers("bad", 0, 9); }) ==
        "2: f: field \"bad[1]\": expected an integer in 0..9, got \"x\"");
  CHECK(error_of([&] { o.object("in").integer("n", 0, 9); }) ==
        "2: f: field \"in.n\": expected an integer in 0..9, got \"y\\u001b\"");
  CHECK(error_of([&] { o.object("in").object("deep").text("x"); }).find("\"in.deep.x\"") !=
        std::string::npos);
  CHECK(error_of([&] { o.object("list"); }) ==
        "2: f: field \"list\": expected an object, got a list");
  CHECK_FALSE(o.optional_object("null").has_value());
  CHECK(o.keys().size() == 10);
  CHECK(o.has("null"));
  const JsonObject inner = JsonObject(parse_json("{\"a\":{\"b\":5}}", "f"), "f").object("a");
  CHECK(inner.integer("b", 0, 9) == 5);  // outlives the object it came from
}
