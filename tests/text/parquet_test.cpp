// SPDX-License-Identifier: Apache-2.0
// What of Arrow's types reaches a template, and as what.
#include <catch2/catch.hpp>

#include "tests/text/data_cases.h"
#include "tests/text/text_cases.h"
#include "text/data/documents.h"

using namespace tenon;
using namespace tenon::test;

namespace {

DocumentOptions with(const std::string& source) {
  const TempFolder folder;
  DocumentOptions options;
  options.chat_template =
      ChatTemplate::named(put_file(folder / "t.jinja", source).string(), folder.path());
  return options;
}

std::string text_of(const std::string& name, const DocumentOptions& options) {
  const auto reader = open_documents(data_case(name), options);
  std::string text;
  for (Document document; reader->next(document);) {
    for (const DocumentPiece& piece : document.pieces) text += piece.text;
  }
  return text;
}

}  // namespace

TEST_CASE("Parquet has the members and the order that the records had", "[documents]") {
  if (!reads_parquet()) return;
  // Both ask whether a member is there, as Llama 3.1's own template does.
  const DocumentOptions options = with(
      "{%- for t in tools -%}{{ t | tojson }}{% endfor -%}"
      "{%- for m in messages -%}<{{ m.role }}>{% if 'tool_calls' in m %}{{ m.tool_calls | tojson }}"
      "{% else %}{{ m.content }}{% endif %}{{ m | list }}<end>{% endfor -%}"
      "{%- if add_generation_prompt %}<assistant>{% endif -%}");
  const std::string text = text_of("calls.parquet", options);
  CHECK(text == text_of("calls.jsonl", options));
  CHECK_THAT(text, Catch::StartsWith(
                       R"({"type": "function", "function": {"name": "f", "description": "d",)"
                       R"( "parameters": {"x": {"type": "int"}}}}{"type": "function", )"
                       R"("function": {"name": "g", "parameters": {"b": {"type": "str"}, )"));
  CHECK_THAT(text, Catch::Contains("<user>a['role', 'content']<end>"));
}

TEST_CASE("every type of Parquet is read, or named where it is needed", "[documents]") {
  if (!reads_parquet()) return;
  const DocumentOptions options = with(
      "{%- for m in messages -%}<{{ m.role }}>{{ m.content }}"
      "{{ m.tool_calls[0].arguments | tojson }}<end>{% endfor -%}"
      "{%- if add_generation_prompt %}<assistant>{% endif -%}");
  CHECK(text_of("values.parquet", options) ==
        R"(<assistant>a{"z_map": {"y": 1, "x": 2}, "numbered": {"7": "a"}, "price": "-1.50", )"
        R"("large": "12345678901234567890123456789.125", "day": "2024-02-29", )"
        R"("day64": "1969-12-31", "second": "2024-02-29T23:04:05", )"
        R"("milli": "2024-02-29T23:04:05.500000", "micro": "2024-02-29T23:04:05.678901+00:00", )"
        R"("nano": "1970-01-01T00:00:00.000000001", "before": "1969-12-31T23:59:59", )"
        R"("time32": "03:04:05", "time64": "03:04:05.000006", "half": 1.5, )"
        R"("large_list": ["a", "b"], "fixed_list": [1, 2], "view": ["a", "b"], "large_view": [1], )"
        R"("coded": "c", "bytes": "abc", "wide": 9223372036854775807, "yes": true, )"
        R"("holes": [1, null]}<end>)");
  DocumentOptions columns;
  columns.columns = {"took", "messages"};
  CHECK_THAT(
      error_of([&] { text_of("values.parquet", columns); }),
      Catch::Contains("values.parquet: row 1: field \"took\": expected a string, got a value "
                      "of the type duration[s]"));
}
