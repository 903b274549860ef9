// SPDX-License-Identifier: Apache-2.0
// Text keeps where it comes from through everything that templates do with text.
#include "text/jinja/origins.h"

#include <catch2/catch.hpp>
#include <ctime>
#include <nlohmann/json.hpp>

#include "text/jinja/template.h"

using namespace tenon;
using jinja::Origin;
using jinja::Run;
using jinja::Template;
using Json = nlohmann::ordered_json;

namespace {

jinja::Written write(const std::string& source) {
  static const Json kMessages = Json::parse(R"([
      {"role": "user", "content": "Ab cd"},
      {"role": "assistant", "content": "x</t>\n\nY é\n", "n": 5, "empty": "",
       "calls": [{"name": "f", "arguments": {"n": 1, "q": "\"ü\\"}}]}])");
  static const Json kTools = Json::parse(R"([{"name": "t"}])"), kBos = "<s>";
  const Template::Variables variables = {
      {"messages", &kMessages, jinja::Variable::Source::kMessages},
      {"tools", &kTools, jinja::Variable::Source::kOther},
      {"bos", &kBos}};
  return Template::parse(
             "{% set u = messages[0].content %}{% set a = messages[1].content %}" + source, "t")
      .write(variables, std::tm{});
}

// What a message says as "0(...)", a role as "0r(...)", another variable's text as "v(...)", the
// template's as it is.
std::string marked(const std::string& source) {
  const jinja::Written written = write(source);
  std::string all;
  written.origins.each(0, written.text.size(), [&](size_t begin, size_t end, const Origin& origin) {
    const std::string text = written.text.substr(begin, end - begin);
    const std::string number = std::to_string(origin.number);
    switch (origin.kind) {
      case Origin::Kind::kTemplate: all += text; break;
      case Origin::Kind::kMessage: all += number + "(" + text + ")"; break;
      case Origin::Kind::kRole: all += number + "r(" + text + ")"; break;
      case Origin::Kind::kOther: all += "v(" + text + ")"; break;
    }
  });
  return all;
}

}  // namespace

TEST_CASE("origins of a text's parts", "[chat][origins]") {
  jinja::Origins origins;
  const Origin a{.kind = Origin::Kind::kMessage, .number = 1}, b{.number = 2};
  const auto within = [&](size_t begin, size_t end) {
    std::string all;
    origins.each(begin, end, [&](size_t from, size_t to, const Origin& one) {
      all +=
          std::to_string(from) + "-" + std::to_string(to) + ":" + std::to_string(one.number) + " ";
    });
    return all;
  };
  origins.append(0, 2, a);
  origins.append(2, 1, a);
  CHECK(origins.is_one());
  CHECK(within(1, 3) == "1-3:1 ");
  origins.append(3, 0, b);  // nothing of the template's leaves no run
  CHECK(origins.is_one());
  origins.append(3, 2, b);
  origins.append(5, 0, a);  // but nothing of a message's does
  origins.append(5, 2, b);
  CHECK(within(0, 7) == "0-3:1 3-5:2 5-5:1 5-7:2 ");
  CHECK(within(3, 5) == "3-5:2 5-5:1 ");
  CHECK(within(2, 4) == "2-3:1 3-4:2 ");
  CHECK(within(5, 7) == "5-5:1 5-7:2 ");
  CHECK(within(4, 4) == "4-4:2 ");
}

TEST_CASE("origins go through what makes text of text", "[chat][origins]") {
  const std::pair<const char*, const char*> expected[] = {
      {"{{ u }}{{ bos }}-{{ tools[0].name }}{{ messages[1].role }}",
       "0(Ab cd)<s>-v(t)1r(assistant)"},
      // Operators.
      {"{{ '<' ~ u ~ '>' }}", "<0(Ab cd)>"},
      {"{{ '<' + u + a[:1] + '>' }}", "<0(Ab cd)1(x)>"},
      {"{{ ('<' + u[0]) * 2 }}", "<0(A)<0(A)"},
      {"{{ ('<' + u + '>')[1:4] }}{{ ('<' + u + '>')[::-2] }}{{ u[-1] }}", "0(Ab )>0(cb)<0(d)"},
      {"{{ ('é' + a)[1] }}{{ ('é' + a)[:2] }}", "1(x)é1(x)"},
      {"{{ '%s|%5s|%.2s|%c|%r|%d%%' % (u, u[:2], u, u[0], 'z' ~ u, 7) }}",
       "0(Ab cd)|   0(Ab)|0(Ab)|0(A)|'z0(Ab cd)'|7%"},
      {"{{ (u ~ ': %s') % 'x' }}", "0(Ab cd): x"},
      {"{{ u if u else 'x' }}{{ u or 'x' }}{{ '' or u }}", "0(Ab cdAb cdAb cd)"},
      // Methods.
      {"{{ (' ' ~ u ~ ' ').strip() }}{{ (u ~ ' ').rstrip() }}{{ ('--' ~ u).lstrip('-') }}",
       "0(Ab cdAb cdAb cd)"},
      {"{{ (' x' ~ u).strip() }}", "x0(Ab cd)"},
      {"{{ ('<' ~ u ~ '>').replace('b', 'yy') }}{{ u.replace('b', a[0], 1) }}",
       "<0(A)yy0( cd)>0(A)1(x)0( cd)"},
      {"{{ ('' ~ u[:2]).replace('', '.') }}", ".0(A).0(b).0()"},
      {"{{ (a ~ '|' ~ u).split('|')[1] }}{{ a.split('</t>')[-1].strip() }}{{ a.split()[1] }}",
       "0(Ab cd)1(Y éY)"},
      {"{{ a.rsplit('\n', 1)[1] }}|{{ a.rsplit(None, 1)[1] }}", "1()|1(é)"},
      {"{{ a.splitlines()[2] }}{{ (u ~ '\n-').splitlines(true)|join('~') }}", "1(Y é)0(Ab cd)\n~-"},
      {"{{ ('k=' ~ u).partition('=')|join('~') }}{{ ('a.' ~ u ~ '.b').rpartition('.')[0] }}",
       "k~=~0(Ab cd)a.0(Ab cd)"},
      {"{{ ', '.join([u, 'x', a[0]]) }}{{ u.join('12') }}", "0(Ab cd), x, 1(x)10(Ab cd)2"},
      {"{{ ('A' ~ u).lower() }}{{ u.upper() }}{{ ('x' ~ u).title() }}{{ u.capitalize() }}",
       "a0(ab cdAB CD)X0(ab CdAb cd)"},
      {"{{ ('ß' ~ u ~ 'ß').upper() }}{{ ('ß' ~ a[0]).swapcase() }}", "SS0(AB CD)SSSS1(X)"},
      {"{{ '{}-{0}-{x}{{'.format(u, x=a[0]) }}{{ (u ~ '{}').format(1) }}",
       "0(Ab cd)-0(Ab cd)-1(x){0(Ab cd)1"},
      {"{{ u.ljust(6) }}{{ u.center(7, '*') }}{{ u[:1].zfill(3) }}",
       "0(Ab cd) *0(Ab cd)*0()000(A)"},
      {"{{ u.removeprefix('A') }}{{ ('-' ~ u).removesuffix('d') }}", "0(b cd)-0(Ab c)"},
      {"{% for c in '-' ~ u[:2] %}{{ c }}.{% endfor %}", "-.0(A).0(b)."},
      // Filters.
      {"{{ (' ' ~ u)|trim }}{{ u|upper }}{{ ('x' ~ u)|title }}{{ ('<' ~ u[:1])|e }}",
       "0(Ab cdAB CD)X0(ab Cd)&lt;0(A)"},
      {"{{ ('-' ~ u)|replace('-', a[0]) }}{{ u|string }}{{ u|safe }}", "1(x)0(Ab cdAb cdAb cd)"},
      {"{{ ('-' ~ u ~ '\n' ~ u)|indent(1, true) }}", " -0(Ab cd)\n 0(Ab cd)"},
      {"{{ 'x%sx'|format(u) }}{{ u|center(7) }}{{ (u ~ '-')|truncate(4, true, '', 0) }}",
       "x0(Ab cd)x 0(Ab cd) 0(Ab c)"},
      {"{{ [u, 'x']|join(a[0]) }}{{ messages|map(attribute='content')|join('+')|length }}",
       "0(Ab cd)1(x)x17"},
      {"{{ messages|map(attribute='role')|join('+') }}", "0r(user)+1r(assistant)"},
      {"{{ ('-' ~ u)|reverse }}{{ [u]|first }}{{ u|list|last }}{{ u|default('x') }}{{ y|d(u) }}",
       "0(dc bA)-0(Ab cddAb cdAb cd)"},
      {"{{ messages|sort(attribute='role')|map(attribute='content')|first }}", "1(x</t>\n\nY é\n)"},
      {"{{ messages[1].calls|tojson }}",
       R"j(1([{"name": "f", "arguments": {"n": 1, "q": "\"ü\\"}}]))j"},
      {"{{ messages[1].calls[0].arguments|tojson(indent=1) }}|{{ messages[1].calls[:1]|string }}",
       "1({\n \"n\": 1,\n \"q\": \"\\\"ü\\\\\"\n})|1([{'name': 'f', 'arguments': {'n': 1, 'q': "
       "'\"ü\\\\'}}])"},
      {"{{ {'k': u, 'l': [a[0]]}|tojson }}", R"j(0({")k0(": "Ab cd", ")l0(": [)1("x")0(]}))j"},
      {"{{ {'role': 'x', 'content': u}|tojson }}",
       R"j(0({")role0(": ")x0(", ")content0(": "Ab cd"}))j"},
      {"{{ ('<' ~ u)|tojson }}{{ tools|tojson }}", R"j("<0(Ab cd)"v([{"name": "t"}]))j"},
      {"{% for k, v in messages[1].calls[0].arguments.items() %}{{ k }};{% endfor %}",
       "1(n);1(q);"},
      // Statements.
      {"{% set x %}<{{ u }}>{% endset %}{{ x }}{% filter upper %}<{{ u }}>{% endfilter %}",
       "<0(Ab cd)><0(AB CD)>"},
      {"{% macro f(x, y='-') %}{{ y }}{{ x }}{{ caller() if caller else '' }}{% endmacro %}"
       "{{ f(u) }}{% call f(a[0], y=u) %}!{{ u }}{% endcall %}",
       "-0(Ab cdAb cd)1(x)!0(Ab cd)"},
      {"{% set ns = namespace(t=u) %}{% set ns.t = ns.t ~ '.' %}{{ ns.t }}"
       "{% with v = u %}{{ v }}{% endwith %}",
       "0(Ab cd).0(Ab cd)"},
      {"{% generation %}<{{ u }}>{% endgeneration %}", "<0(Ab cd)>"},
      // Nothing, where something might have stood.
      {"<{{ messages[1].empty }}>{{ (messages[1].empty ~ '-')[:0] }}{{ a.split('\n')[-1] }}",
       "<1()>1()"},
  };
  for (const auto& [source, wanted] : expected) {
    INFO(source);
    CHECK(marked(source) == wanted);
  }
}

TEST_CASE("literals and iterations are told apart", "[chat][origins]") {
  const auto runs = [](const std::string& source) {
    const jinja::Written written = write(source);
    std::string all;
    Origin before;
    written.origins.each(0, written.text.size(), [&](size_t begin, size_t end, const Origin& one) {
      if (begin > 0 && (one.kind != before.kind || one.number != before.number)) all += '|';
      if (one.iteration != before.iteration) {
        const int64_t owner = one.iteration > 0 ? written.owners.at(one.iteration - 1) : -1;
        all += "{" + std::to_string(one.iteration) +
               (owner < 0 ? "" : "=" + std::to_string(owner)) + "}";
      }
      if (one.generation != before.generation) all += "*" + std::to_string(one.generation);
      all += written.text.substr(begin, end - begin);
      before = one;
    });
    return all;
  };
  CHECK(runs("a{{ 'b' 'c' ~ bos }}d{{ 1 }}") == "a|bc|<s>|d|1");
  CHECK(runs("{% for m in messages %}{{ m.role }}.{% endfor %}x") ==
        "{1=0}user|.|{2=1}assistant|.|{0}x");
  // The outermost loop over messages counts, else the outermost.
  CHECK(runs("{% for m in messages[:1] %}{% for i in [1, 2] %}-{% endfor %}"
             "{% for n in messages %}+{% endfor %}{% endfor %}") == "{1=0}--|++");
  CHECK(runs("{% for i in [1, 2] %}-{% for j in [1, 2] %}+{% endfor %}{% endfor %}") ==
        "{1}-|++|{2}-|++");
  CHECK(runs("{% for p in [messages] %}-{% for m in p %}+{% endfor %}-{% endfor %}") ==
        "{1}-|{2=0}+{3=1}+|{1}-");
  // What was written in a message's iteration, or set there, stays there.
  CHECK(runs("{% macro f(ms) %}{% for m in ms %}+{% endfor %}{% endmacro %}"
             "{% for i in [1] %}{{ f(messages) }}{% endfor %}") == "{2=0}+{3=1}+");
  CHECK(runs("{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ '+' %}"
             "{% endfor %}{{ ns.t }}") == "{1=0}+{2=1}+");
  CHECK(runs("{% set t %}{% for t in tools %}-{% endfor %}{% endset %}"
             "{% for m in messages %}{{ t }}{% endfor %}") == "{2=0}-{3=1}-");
  CHECK(runs("{% for m in messages %}{% generation %}+{% endgeneration %}{% endfor %}") ==
        "{1=0}*1+{2=1}*2+");
}
