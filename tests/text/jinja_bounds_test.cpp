// SPDX-License-Identifier: Apache-2.0
// Templates that are wrong, broken or hostile end in an error that says where.
#include <catch2/catch.hpp>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"
#include "core/file.h"
#include "text/jinja/template.h"

using namespace tenon;
using jinja::Template;

namespace {

const Template::Variables& variables() {
  using Json = nlohmann::ordered_json;
  static const Json kMessages = Json::parse(
      R"([{"role": "system", "content": "S"}, {"role": "user", "content": "é"},
          {"role": "assistant", "content": "A"}])");
  static const Json kTrue = true, kBos = "<s>";
  static const Template::Variables all = {
      {"messages", &kMessages, jinja::Variable::Source::kMessages},
      {"add_generation_prompt", &kTrue},
      {"bos_token", &kBos}};
  return all;
}

std::string write(const std::string& source) {
  return Template::parse(source, "t").write(variables(), std::tm{.tm_mday = 1}).text;
}

// The message of the error, or "" where there is none. Anything but Error flies past.
std::string error_of(const std::string& source) {
  try {
    write(source);
  } catch (const Error& error) {
    CHECK(error.code() == Exit::kInput);
    return error.what();
  }
  return {};
}

std::string repeated(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

}  // namespace

TEST_CASE("errors name the line and the construct", "[chat]") {
  const std::pair<const char*, const char*> expected[] = {
      {"a\n{% include 'x' %}", "t:2: the statement {% include %} is not supported"},
      {"a\n\n{% foo %}", "t:3: {% foo %} is not expected here"},
      {"{% for a in b recursive %}{% endfor %}", "t:1: {% for ... recursive %} is not supported"},
      {"{% if x %}\n", "t:1: expected {% endif %}, got the end of the template"},
      {"{% for x in y %}{% endif %}", "t:1: {% endif %} is not expected here"},
      {"{{ a b }}", "t:1: expected \"}}\", got \"b\""},
      {"{{ a", "t:1: expected \"}}\", got the end of the template"},
      {"{{ 'a }}", "t:1: this string has no end"},
      {"{{ a ? b }}", "t:1: unexpected character \"?\""},
      {"{{ (a] }}", "t:1: unexpected \"]\", expected \")\""},
      {"\n{# x", "t:2: this comment has no end \"#}\""},
      {"{{ messages|nope }}", "t:1: there is no filter \"nope\""},
      {"{{ messages|pprint }}", "t:1: the filter \"pprint\" is not supported"},
      {"{{ messages is nope }}", "t:1: there is no test \"nope\""},
      {"{{ 'a'.encode() }}", "t:1: str.encode is not supported"},
      {"{{\nx.y }}", "t:2: \"x\" is undefined"},
      {"{{ messages[0].x.y }}", "t:1: dict object has no attribute \"x\""},
      {"{{ messages.append(1) }}",
       "t:1: list.append would change its value, which templates may not"},
      {"a\n{{ raise_exception('No\nway') }}", "t:2: No\\nway"},
      {"{{ 1 + 'a' }}", "t:1: + does not work on int and str"},
      {"{{ 1 < 'a' }}", "t:1: int and str have no order"},
      {"{{ 1 // 0 }}", "t:1: division by zero"},
      {"{% macro f(a) %}\n{{ a.b }}{% endmacro %}\n\n{{ f(none).x }}{{ f(x) }}",
       "t:2: \"x\" is undefined"},
      {"{{ 9223372036854775807 * 2 }}", "t:1: an integer does not fit in 64 bits"},
      {"{% set true = 1 %}", "t:1: \"true\" cannot be assigned to"},
      {"{% break %}", "t:1: {% break %} stands in no loop"},
      {"{{ namespace(_x=1) }}",
       "t:1: a namespace takes no attributes that begin with \"_\", got \"_x\""},
      {"\xff", "t: byte 0 is not UTF-8"},
  };
  for (const auto& [source, message] : expected) {
    INFO(source);
    CHECK(error_of(source) == message);
  }
}

TEST_CASE("hostile templates end early", "[chat]") {
  const std::string sources[] = {
      "{% for i in range(10**9) %}x{% endfor %}",
      "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
      "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxxxxxxxxx{% endfor %}{% "
      "endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(s=[]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}",
      "{% set ns = namespace(s=[]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% "
      "endfor %}{{ ns.s }}",
      "{% set ns = namespace(s=[]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% "
      "endfor %}{{ ns.s|tojson }}",
      "{% set ns = namespace(s=[], t=[]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}"
      "{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
      "{{ 'x' * 10**12 }}",
      "{{ [1] * 10**12 }}",
      "{{ 'x'.center(10**12) }}",
      "{{ '42'.zfill(10**12) }}",
      "{{ '%1000000000000d' % 1 }}",
      "{{ '%.1000000000000f' % 1 }}",
      "{{ '%*d' % (10**12, 1) }}",
      "{{ 'x'|indent(10**12) }}",
      "{{ ('x\n' * 99999)|indent(99999) }}",
      "{{ [1]|tojson(indent=10**12) }}",
      "{{ [[[1]]]|tojson(indent='x' * 10**8) }}",
      "{{ ('a' * 9999).replace('', 'b' * 99999) }}",
      "{{ ('a' * 9999).replace('a', 'b' * 99999) }}",
      "{{ ('b' * 99999).join('a' * 9999) }}",
      "{{ range(99999)|join('b' * 99999) }}",
      "{{ [1]|batch(10**12, 'x')|list }}",
      "{{ [1]|slice(10**12, 'x')|list }}",
      "{{ [1]|slice(10**12)|list }}",
      "{{ 10 ** 10 ** 10 }}",
      "{{ range(99999)|unique|list|length }}",
      "{{ dict(range(99999)|batch(2)) }}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
      "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
      "{% set ns = namespace() %}{% set ns.ns = [ns] %}{{ ns.ns }}{{ [ns]|string }}",
      "{{ strftime_now('%c' * 9999) }}",
      "{{" + repeated("(", 5000) + repeated(")", 5000) + "}}",
      "{{" + repeated("[", 5000) + repeated("]", 5000) + "}}",
      "{{" + repeated("{1:", 5000) + "1" + repeated("}", 5000) + "}}",
      "{{" + repeated("not ", 5000) + "1}}",
      "{{" + repeated("-", 5000) + "1}}",
      "{{ 1" + repeated("+1", 5000) + "}}",
      "{{ x" + repeated("|e", 5000) + "}}",
      "{{ x" + repeated("[0]", 5000) + "}}",
      "{{ x" + repeated(" if x else x", 5000) + "}}",
      repeated("{% if x %}", 5000) + repeated("{% endif %}", 5000),
      repeated("{% for x in y %}", 5000) + repeated("{% endfor %}", 5000),
      repeated("{% filter e %}", 5000) + repeated("{% endfilter %}", 5000),
      "{% set " + repeated("(", 5000) + "a" + repeated(")", 5000) + " = 1 %}",
      std::string(2 << 20, 'x'),
  };
  for (const std::string& source : sources) {
    INFO(source.substr(0, 200));
    CHECK_FALSE(error_of(source).empty());
  }
}

TEST_CASE("values that hold themselves are released", "[chat]") {
  CHECK(write("{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.l = [ns] %}ok") == "ok");
  CHECK(write("{% macro f() %}{{ g }}{% endmacro %}{% set g = [f] %}ok") == "ok");
  CHECK(write("{% for i in [1] %}{% set x = [loop] %}{% if loop.changed(loop) %}ok{% endif %}{% "
              "endfor %}") == "ok");
  CHECK(error_of("{% set ns = namespace() %}{% for i in [1] %}{% set ns.l = loop %}{% endfor %}"
                 "{{ ns.l.changed(ns.l) }}") == "t:1: loop.changed() is called after the loop");
  CHECK(write("{% set ns = namespace() %}{% for i in [1, 2] %}{% macro f() %}{{ i }}{% endmacro %}"
              "{% set ns.f = f %}{% endfor %}{{ ns.f is callable }}") == "True");
}

TEST_CASE("templates that are cut or damaged raise errors at worst", "[chat]") {
  const std::filesystem::path folder =
      std::filesystem::path(TENON_SOURCE_DIR) / "tests/reference/chat/templates";
  std::mt19937 random(7);
  int64_t refused = 0, written = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string source = read_text(entry.path(), 1 << 20);
    const auto attempt = [&](const std::string& text) {
      ++(error_of(text).empty() ? written : refused);
    };
    // Every byte of a short template; a sample of a long one's keeps this within seconds.
    const size_t stride = 1 + source.size() / 700;
    for (size_t size = 0; size < source.size(); size += stride) attempt(source.substr(0, size));
    for (int i = 0; i < 300; ++i) {
      std::string damaged = source;
      for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips) {
        damaged[random() % damaged.size()] ^= static_cast<char>(1 << (random() % 8));
      }
      attempt(damaged);
    }
  }
  CHECK(refused > 1000);
  CHECK(written > 100);
}
