// SPDX-License-Identifier: Apache-2.0
#include "core/error.h"

#include <array>
#include <catch2/catch.hpp>

#include "tests/core/temp_folder.h"

using namespace tenon;
using test::error_of;

TEST_CASE("an error carries its exit code and its formatted message", "[error]") {
  CHECK(error_of([] { fail(Exit::kMemory, "needs {} bytes", 12); }) == "7: needs 12 bytes");
  CHECK(error_of([] { fail_input("{}: expected {}", "a.json", "b"); }) == "2: a.json: expected b");
  CHECK(error_of([] { TENON_CHECK(1 + 1 == 3, "[sum] got {}", 2); }) == "1: [sum] got 2");
  CHECK(error_of([] { TENON_CHECK(1 + 1 == 2, "[sum] got {}", 2); }) == "no error");
}

TEST_CASE("printable leaves text alone and escapes what would leave its line", "[error]") {
  CHECK(printable("plain, \"quoted\" \\ text") == "plain, \"quoted\" \\ text");
  CHECK(printable("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80") ==
        "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  CHECK(printable("a\nb\tc\rd") == "a\\nb\\tc\\rd");
  CHECK(printable(std::string_view("\0\x1b[31m\x7f", 7)) == "\\x00\\x1b[31m\\x7f");
  CHECK(printable("\xC2\x9B") == "\\x9b");  // the C1 form of ESC [
  CHECK(printable("\xE2\x80\xAE\xE2\x81\xA6") ==
        "\\u202e\\u2066");                        // right-to-left override, isolate
  CHECK(printable("\xE2\x80\xA8") == "\\u2028");  // line separator
  CHECK(printable("\xE2\x81\xA9\xE2\x81\xAA") == "\\u2069\xE2\x81\xAA");  // the last isolate
}

TEST_CASE("printable escapes each byte of invalid UTF-8", "[error]") {
  CHECK(printable("\xFF\xFE") == "\\xff\\xfe");
  CHECK(printable("a\xC3") == "a\\xc3");                           // cut short
  CHECK(printable("\xC0\xAF") == "\\xc0\\xaf");                    // overlong
  CHECK(printable("\xE0\x80\xAF") == "\\xe0\\x80\\xaf");           // overlong
  CHECK(printable("\xED\xA0\x80") == "\\xed\\xa0\\x80");           // surrogate
  CHECK(printable("\xF4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
}

TEST_CASE("printable cuts long text between characters", "[error]") {
  CHECK(printable(std::string(1000, 'x')) == std::string(120, 'x') + "...");
  CHECK(printable("\xC3\xA9\xC3\xA9\xC3\xA9", 3) == "\xC3\xA9\xC3\xA9...");
  CHECK(printable("abc", 3) == "abc");
}

TEST_CASE("nearest finds the likely word and nothing far off", "[error]") {
  const std::array<std::string_view, 3> names = {"learning-rate", "lora-rank", "seed"};
  CHECK(nearest("learning_rate", names) == "learning-rate");
  CHECK(nearest("lora-rnak", names) == "lora-rank");
  CHECK(nearest("sed", names) == "seed");
  CHECK(nearest("temperature", names).empty());
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("same", "same") == 0);
}
