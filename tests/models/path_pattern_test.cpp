// SPDX-License-Identifier: Apache-2.0
// Patterns of module names mean what Python's re.fullmatch says, or are refused. The answers are
// those of Python 3.11.
#include <catch2/catch.hpp>

#include "models/path_pattern.h"
#include "tests/core/temp_folder.h"

namespace tenon::test {
namespace {

bool matches(const std::string& pattern, const std::string& path) {
  return PathPattern(pattern, "config").matches(path);
}

std::string fault(const std::string& pattern) {
  return error_of([&] { PathPattern(pattern, "config"); });
}

}  // namespace

TEST_CASE("a pattern means what it means in Python", "[pattern]") {
  const std::pair<const char*, bool> cases[] = {
      {R"(model\.layers\.\d+\.self_attn\.(q|v)_proj\Z)", true},
      {R"(\Amodel\..*\.(q|v)_proj)", true},
      {R"((?i).*Q_PROJ)", true},
      {R"(.*\.(?P<p>q|v)_proj)", true},
      {R"(.*(?<=self_attn\.)q_proj)", true},
      {R"(.*(?<!mlp\.)q_proj)", true},
      {R"(.*(?<!self_attn\.)q_proj)", false},
      {R"(model\.layers\.\d{1,3}\.\w{1,40}\.\w+_proj)", true},
      {R"(model\.layers\.\d{3}\..*)", false},
      {R"(model\.layers\.\d{,2}\..*)", true},
      {R"(.*\.1{2}\..*)", true},
      {R"(.*\.1{3,}\..*)", false},
      {R"((?!.*layers\.11).*)", false},
      {R"((?=.*attn).*q_proj)", true},
      {R"((?:model|base)\.[a-z]+\.[^.]+\.self_attn\.q_proj)", true},
      {R"(q_proj)", false},
      {R"(.*[^\w.].*)", false},
      {R"(model\.layers\.(?:[0-9]|1[0-9])\.self_attn\.[qkvo]_proj)", true},
      {R"(.*\bself_attn\b.*)", true},
      {R"(.*\bself\b.*)", false},
      {R"(.*\Bproj)", true},
      {R"([\w.]+)", true},
      {R"([^\W\d.]+.*)", true},
      {R"(.*[]q]_proj)", true},
      {R"(.*[qkv-]_proj)", true},
      {R"(.*[[:alpha:]]_proj)", false},
      {R"(model.layers.11.self_attn.q_proj$)", true},
      {R"(^model.*q_proj)", true},
      {R"(.*(?#the queries)q_proj)", true},
      {R"((?s:.*)(?i:Q_Proj))", true},
      {R"(.*(?i:Q)_PROJ)", false},
      {R"(.*\x71_proj)", true},
      {R"(.*[\161]_proj)", true},
      {R"(model(\.\w+)*)", true},
      {R"((\w+\.){4}q_proj)", true},
      {R"((\w+\.){3}q_proj)", false},
      {R"((\w+?\.){2,4}?q_proj)", true},
      {R"(.*{q}_proj)", false},
      {R"((?m)^model.*$)", true},
      {R"(((a*)*)*b)", false},
      {R"(.*_proj|x)", true},
      {R"(x|)", false},
      {R"()", false},
      {R"((?i)[^A-Z]+)", false},
      {R"((?i)[^_0-9.]+[A-Z._0-9]*)", true},
      {R"(model\.layers\.[1-9][0-9]?\..*)", true},
      {R"(.*q_proj\Z\Z)", true},
      {R"((?:.*\.)?q_proj)", true},
      {R"((q|.)*)", true}};
  for (const auto& [pattern, want] : cases) {
    INFO(pattern);
    CHECK(matches(pattern, "model.layers.11.self_attn.q_proj") == want);
  }
}

TEST_CASE("counts, cases and edges of patterns", "[pattern]") {
  CHECK(matches("a{2,3}", "aa"));
  CHECK(matches("a{2,3}", "aaa"));
  CHECK_FALSE(matches("a{2,3}", "a"));
  CHECK_FALSE(matches("a{2,3}", "aaaa"));
  CHECK(matches("(a|bc){3}", "bcabc"));
  CHECK(matches("(a|){5}", "aa"));
  CHECK_FALSE(matches("(a|){5}", "aaaaaa"));
  CHECK(matches("(ab?){2,}", "aaba"));
  CHECK(matches("(?:a?){3}a{3}", "aaa"));
  CHECK(matches("a{,2}", ""));
  CHECK(matches("a{b}", "a{b}"));
  CHECK(matches("x{}", "x{}"));
  CHECK(matches("[a-c-]+", "a-c"));
  CHECK(matches("[^]a]", "b"));
  CHECK_FALSE(matches("[^]a]", "]"));
  CHECK(matches("[\\w.]+", "a.B_9"));
  CHECK(matches("(?i)[^b]", "c"));
  CHECK_FALSE(matches("(?i)[^b]", "B"));
  CHECK(matches("(?i:a(?-i:b))c", "Abc"));
  CHECK_FALSE(matches("(?i:a(?-i:b))c", "ABc"));
  CHECK_FALSE(matches("(?i:a)b", "aB"));
  CHECK(matches("a\\.b|c", "c"));
  CHECK(matches("(?<=^)a", "a"));
  CHECK(matches("ab(?<=ab)c", "abc"));
  CHECK_FALSE(matches("ab(?<=cab)c", "abc"));
  CHECK(matches("", ""));
}

TEST_CASE("what Python refuses is refused, and what is not understood is told apart", "[pattern]") {
  for (const char* pattern : {"(c_attn",
                              "a)",
                              "*a",
                              "a**",
                              "a*?*",
                              "[a",
                              "[z-a]",
                              "a{3,2}",
                              "\\q",
                              "a\\",
                              "(?<=a*)b",
                              "(?P<1>a)",
                              "(?P<a>x)(?P<a>y)",
                              "a(?i)b",
                              "(?z)",
                              "^*",
                              "(?i",
                              "[a-\\d]",
                              "(?#x",
                              "(?L)a",
                              "|*",
                              "(?P>a)",
                              "\\x1",
                              "[\\8]",
                              "\\b+"}) {
    INFO(pattern);
    CHECK_THAT(fault(pattern), Catch::StartsWith("2: config: \"") &&
                                   Catch::Contains("is not a regular expression (of Python): "));
  }
  for (const char* pattern : {"(a)\\1", "(?P<x>a)(?P=x)", "a*+", "a{2}+", "(?>a)", "(?(1)a|b)",
                              "(?x)a b", "\\N{DIGIT ONE}", "\u00e9"}) {
    INFO(pattern);
    CHECK_THROWS_AS(PathPattern(pattern, "config"), UnsupportedPattern);
    CHECK_THAT(fault(pattern), Catch::EndsWith("which Tenon does not understand"));
  }
}

TEST_CASE("a pattern cannot be made to run for long, or to be too long", "[pattern]") {
  const std::string path(400, 'a');
  CHECK_FALSE(matches("((a*)*)*b", path));
  CHECK_FALSE(matches("((((((((((a*)*)*)*)*)*)*)*)*)*)*b", path));
  CHECK(matches("(a|aa)+", path));
  CHECK(matches("((a{0,999999999}){0,999999999}){3,999999999}", path));
  CHECK_FALSE(matches("a{999999999}", path));
  CHECK(matches(std::string(900, '(') + "a*" + std::string(900, ')'), path));
  CHECK(fault(std::string(5000, 'a')) ==
        "2: config: a pattern of 5000 bytes, at most 2048 are read");
}

}  // namespace tenon::test
