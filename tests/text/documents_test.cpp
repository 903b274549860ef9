// SPDX-License-Identifier: Apache-2.0
// Records of data files as documents: every kind of file, every shape, and what is wrong with them.
#include "text/data/documents.h"

#include <catch2/catch.hpp>
#include <random>

#include "tests/text/data_cases.h"
#include "tests/text/text_cases.h"

using namespace tenon;
using namespace tenon::test;

namespace {

using OrderedJson = nlohmann::ordered_json;

// "<role>content<end>" a turn, and "<tools>" with what it is told of tools.
class FakeTemplate : public ChatTemplate {
 public:
  WrittenChat write_with_spans(const OrderedJson& messages, const OrderedJson& extra,
                               bool) const override {
    WrittenChat written;
    if (!extra.is_null()) written.text = "<tools>" + extra.at("tools").dump();
    for (size_t turn = 0; turn < messages.size(); ++turn) {
      const OrderedJson& message = messages[turn];
      const std::string role = message.at("role");
      if (role == "ipython") fail_input("chatml: no such role");
      written.text += "<" + role + ">";
      const size_t begin = written.text.size();
      written.text += message.at("content").get<std::string>() + "<end>";
      if (role == "assistant") written.turns.push_back({begin, written.text.size(), turn});
    }
    return written;
  }
  const std::string& source() const override { return name_; }

 private:
  std::string name_ = "fake";
};

DocumentOptions with_template() {
  DocumentOptions options;
  options.chat_template = std::make_shared<FakeTemplate>();
  return options;
}

std::vector<Document> read_all(const std::filesystem::path& path, const DocumentOptions& options,
                               ByteRange range = {}) {
  const auto reader = open_documents(path, options, range);
  std::vector<Document> documents;
  for (Document document; reader->next(document);) documents.push_back(document);
  return documents;
}

// A document's pieces in one line, what is scored in brackets.
std::string line_of(const Document& document) {
  std::string line;
  for (const DocumentPiece& piece : document.pieces) {
    line += piece.scored ? "[" + piece.text + "]" : piece.text;
  }
  return line;
}

std::vector<std::string> lines_of(const std::vector<Document>& documents) {
  std::vector<std::string> lines;
  for (const Document& document : documents) lines.push_back(line_of(document));
  return lines;
}

// What one record of a .jsonl becomes.
std::string written(const std::string& record, const DocumentOptions& options = {}) {
  const TempFolder folder;
  const std::vector<Document> documents = read_all(put_file(folder / "a.jsonl", record), options);
  REQUIRE(documents.size() == 1);
  return line_of(documents[0]);
}

// The error of a file, without its folder's name and the exit code.
std::string fault(const std::string& name, const std::string& content,
                  const DocumentOptions& options = {}) {
  const TempFolder folder;
  const std::string error = error_of([&] { read_all(put_file(folder / name, content), options); });
  const std::string begin = "2: " + folder.path().string() + "/";
  return error.starts_with(begin) ? error.substr(begin.size()) : error;
}

// The records of tests/reference/make_data_cases.py.
std::vector<std::string> alpaca_lines() {
  std::vector<std::string> lines;
  for (const Json& pair : parse_json_file(data_case("documents.json"))) {
    lines.push_back(pair[0].get<std::string>() + "[" + pair[1].get<std::string>() + "]");
  }
  return lines;
}
std::vector<std::string> chat_lines() {
  return {
      "<user>Hello<end><assistant>[Hi. What is it?<end>]<user>A lamp.<end><assistant>[So it "
      "is.<end>]",
      "<system>Be brief.<end><user>Why \"brief\"?<end><assistant>[Time. \u23f1<end>]",
      "<user>1\n2<end><assistant>[3<end>]"};
}

// Whether the file is read to its end, or refused as bad input.
bool ends_well(const std::filesystem::path& path, const DocumentOptions& options) {
  const std::string error = error_of([&] { read_all(path, options); });
  return error == "no error" || error.starts_with("2: ");
}

}  // namespace

TEST_CASE("every kind of file holds the same records", "[documents]") {
  for (const std::string kind : {"jsonl", "json", "csv"}) {
    for (const std::string packed : {"", ".gz", ".zst"}) {
      CAPTURE(kind, packed);
      CHECK(lines_of(read_all(data_case("alpaca." + kind + packed), {})) == alpaca_lines());
    }
  }
  CHECK(lines_of(read_all(data_case("chat.jsonl"), with_template())) == chat_lines());
  CHECK(lines_of(read_all(data_case("sharegpt.json"), with_template())) == chat_lines());
}

TEST_CASE("Parquet holds the same records, however it is written", "[documents]") {
  if (!reads_parquet()) return;
  for (const char* name : {"none", "snappy", "gzip", "zstd", "types", "nulls"}) {
    CAPTURE(name);
    const std::string file = std::string("alpaca-") + name + ".parquet";
    const std::vector<Document> documents = read_all(data_case(file), {});
    CHECK(lines_of(documents) == alpaca_lines());
    CHECK(documents.at(13).place == data_case(file).string() + ": row 14");
  }
  CHECK(lines_of(read_all(data_case("chat.parquet"), with_template())) == chat_lines());
}

TEST_CASE("shapes are found by looking", "[documents]") {
  const DocumentOptions plain, chat = with_template();
  CHECK(written(R"({"text": "a b"})") == "[a b]");
  CHECK(written(R"({"prompt": "a ", "completion": " b"})") == "a [ b]");
  CHECK(written(R"({"question": "a", "answer": "b"})") == "a\n[b]");
  CHECK(written(R"({"system_prompt": "s", "question": "a", "response": "b"})") ==
        "### System:\ns\n### Human:\na\n### Assistant:\n[b]");
  CHECK(written(R"({"system_prompt": "", "question": "a", "response": "b"})") ==
        "### Human:\na\n### Assistant:\n[b]");
  CHECK(written(R"({"instruction": "a", "output": "b", "text": "all of it"})") ==
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\na\n\n### Response:\n[b]");

  const std::string turns = "<user>a<end><assistant>[b<end>]";
  CHECK(written(R"({"prompt": "a", "completion": "b"})", chat) == turns);
  CHECK(written(R"({"question": "a", "answer": "b"})", chat) == turns);
  CHECK(written(R"({"instruction": "a", "input": "", "output": "b"})", chat) == turns);
  CHECK(written(R"({"instruction": "a", "input": "c", "output": "b"})", chat) ==
        "<user>a\n\nc<end><assistant>[b<end>]");
  CHECK(written(R"({"system_prompt": "s", "question": "a", "response": "b"})", chat) ==
        "<system>s<end>" + turns);
  CHECK(written(R"({"text": "a"})", chat) == "[a]");
}

TEST_CASE("what is scored of a conversation", "[documents]") {
  const std::string record =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, )"
      R"({"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})";
  DocumentOptions options = with_template();
  options.system = "s";
  CHECK(written(record, options) ==
        "<system>s<end><user>a<end><assistant>[b<end>]<user>c<end><assistant>[d<end>]");
  options.train_on = TrainOn::kLast;
  CHECK(written(record, options) ==
        "<system>s<end><user>a<end><assistant>b<end><user>c<end><assistant>[d<end>]");
  options.train_on = TrainOn::kEverything;
  options.system.clear();
  CHECK(written(record, options) == "[<user>a<end><assistant>b<end><user>c<end><assistant>d<end>]");
  options.chat_template = nullptr;
  CHECK(written(R"({"prompt": "a", "completion": "b"})", options) == "[a][b]");

  options = with_template();
  options.system = "s";
  const std::string given =
      R"({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, )"
      R"({"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]})";
  CHECK(written(given, options) ==
        "<system>s<end><user>a<end><assistant>b<end><user>c<end><assistant>[d<end>]");
  const std::string cut =
      R"({"conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "a"}, )"
      R"({"from": "gpt", "value": "b"}]})";
  CHECK(written(cut, with_template()) == "<user>a<end><assistant>[b<end>]");
  const std::string tools =
      R"({"tools": [{"z": 1, "a": 2}], "messages": [{"role": "user", "content": "a"}]})";
  CHECK(written(tools, with_template()) == "<tools>[{\"z\":1,\"a\":2}]<user>a<end>");
}

TEST_CASE("columns may be named, also inside lists", "[documents]") {
  DocumentOptions options;
  options.columns = {"ask", "tries.1.say"};
  CHECK(written(R"({"ask": "a", "tries": [{"say": "x"}, {"say": "b"}]})", options) == "a\n[b]");
  CHECK(
      fault("a.jsonl", R"({"ask": "a", "tries": [{"say": "x"}]})", options) ==
      "a.jsonl:1: field \"tries.1.say\": expected a string, got nothing; found: \"ask\", \"tries\" "
      "(a list); the record begins: {\"ask\": \"a\", \"tries\": [{\"say\": \"x\"}]}");
  options = {};
  options.format = "alpaca";
  CHECK_THAT(fault("a.jsonl", R"({"text": "a"})", options),
             Catch::StartsWith("a.jsonl:1: field \"instruction\": expected a string, got nothing"));
}

TEST_CASE("a bad record is told with its place and its beginning", "[documents]") {
  const DocumentOptions chat = with_template();
  const std::string good = "{\"text\": \"a\"}";
  CHECK_THAT(fault("a.json", "[" + good + ",\n  {\"text\": \"a\" 1}]"),
             Catch::StartsWith("a.json:2:16: invalid JSON: ") &&
                 Catch::EndsWith("; the record begins: {\"text\": \"a\" 1}"));
  CHECK(fault("a.json", "[" + good + " " + good + "]") ==
        "a.json:1:16: invalid JSON: expected ',' or ']', got \"{\"text\": \"a\"}]\"");
  CHECK(fault("a.json", "[" + good + ",]") ==
        "a.json:1:16: invalid JSON: expected a value, got \"]\"");
  CHECK(fault("a.json", "[" + good) ==
        "a.json:1:15: invalid JSON: expected ',' or ']', got the end of the text");
  CHECK(fault("a.json", "[" + good + "] x") ==
        "a.json:1:17: invalid JSON: expected the end of the text, got \"x\"");
  CHECK_THAT(fault("a.json", "text"), Catch::StartsWith("a.json:1:1: invalid JSON: expected '['"));
  CHECK(lines_of(read_all(put_file(TempFolder().path().string() + ".json", good + "\n" + good),
                          {})) == std::vector<std::string>{"[a]", "[a]"});

  CHECK(fault("a.csv", "text,b\nx,y\nz\n") ==
        "a.csv:3: expected 2 columns as the header has, got 1; the record begins: z\\n");
  CHECK(fault("a.csv", "text\n\"x\ny\"z\n") ==
        "a.csv:3:3: expected ',' or the end of the line behind a closing quote; the record begins: "
        "\"x\\ny\"z\\n");
  CHECK(
      fault("a.csv", "text\nx\"y\n") ==
      "a.csv:2:2: expected quotes around the whole field (and doubled within it), got one inside; "
      "the record begins: x\"y\\n");
  CHECK(fault("a.csv", "text\n\"x\n") ==
        "a.csv:2:1: expected a closing quote, got the end of the file");
  CHECK(fault("a.csv", "a,a\n") == "a.csv:1: expected each column name once, got \"a\" twice");
  CHECK_THAT(
      fault("a.csv", "text\n\xFF\n"),
      Catch::StartsWith("a.csv:2: field \"text\": expected UTF-8, got other bytes at byte 0"));

  CHECK_THAT(fault("a.jsonl", R"({"messages": [{"role": "user", "content": "a"}]})"),
             Catch::StartsWith("a.jsonl:1: a conversation, but the model has no chat template"));
  CHECK_THAT(
      fault("a.jsonl", R"({"messages": []})", chat),
      Catch::StartsWith("a.jsonl:1: field \"messages\": expected a list of messages, got an"));
  CHECK_THAT(fault("a.jsonl", R"({"messages": [{"role": "user"}]})", chat),
             Catch::StartsWith("a.jsonl:1: messages[0]: field \"content\": expected a string"));
  CHECK_THAT(fault("a.jsonl", R"({"messages": [{"role": "ipython", "content": "a"}]})", chat),
             Catch::StartsWith("a.jsonl:1: chatml: no such role; the record begins: "));
  CHECK_THAT(fault("a.jsonl", R"({"conversations": [{"from": "dog", "value": "a"}]})", chat),
             Catch::Contains("conversations[0]: field \"from\": expected one of system, "));
}

TEST_CASE("CSV as RFC 4180 has it", "[documents]") {
  const TempFolder folder;
  const auto read = [&](const std::string& text) {
    return lines_of(read_all(put_file(folder / "a.csv", text), {}));
  };
  using Lines = std::vector<std::string>;
  CHECK(read("\xEF\xBB\xBFtext,n\r\n\"a, \"\"b\"\"\r\nc\",1\r\n\r\nd,\r\n") ==
        Lines{"[a, \"b\"\r\nc]", "[d]"});
  CHECK(read("text\ra\rb") == Lines{"[a]", "[b]"});
  CHECK(read("n,text\n,a\n\"\",\"\"\n") == Lines{"[a]", "[]"});
}

TEST_CASE("a string may end in backslashes, and hold quotes and brackets", "[documents]") {
  const TempFolder folder;
  const auto path = put_file(folder / "a.json", R"([{"text": "a\\"}, {"text": "\\\"]"}])");
  CHECK(lines_of(read_all(path, {})) == std::vector<std::string>{R"([a\])", R"([\"]])"});
}

TEST_CASE("bad records may be passed over", "[documents]") {
  const TempFolder folder;
  DocumentOptions options;
  options.skip_bad = true;
  const auto path = put_file(folder / "a.jsonl",
                             "{\"te\n{\"text\": \"a\"}\n[]\n{\"text\": 1}\n{\"text\": \"b\"}\n");
  const auto reader = open_documents(path, options);
  Document document;
  std::string text;
  while (reader->next(document)) text += line_of(document);
  CHECK(text == "[a][b]");
  CHECK(reader->skipped() == 3);
  CHECK_THAT(reader->first_fault(), Catch::Contains("a.jsonl:1:5: invalid JSON: "));
  CHECK(fault("a.jsonl", "{\"other\": 1}\n", options) != "no error");  // no shape is known
}

TEST_CASE("parts of a .jsonl are the whole", "[documents]") {
  const TempFolder folder;
  std::string text = "\xEF\xBB\xBF";
  for (int i = 0; i < 7; ++i) {
    text += "{\"text\": \"" + std::string(static_cast<size_t>(i * i % 5), 'x') + "\"}" +
            (i % 2 == 0 ? "\r\n" : "\n\n");
  }
  const auto path = put_file(folder / "a.jsonl", text);
  REQUIRE(can_split(path));
  const std::vector<std::string> whole = lines_of(read_all(path, {}));
  const auto size = static_cast<int64_t>(text.size());
  for (int64_t a = 0; a <= size; ++a) {
    for (const int64_t b : {a, (a + size) / 2, size}) {
      std::vector<std::string> parts;
      for (const ByteRange range : {ByteRange{0, a}, ByteRange{a, b}, ByteRange{b, INT64_MAX}}) {
        for (const std::string& line : lines_of(read_all(path, {}, range))) parts.push_back(line);
      }
      CAPTURE(a, b);
      CHECK(parts == whole);
    }
  }
  put_file(path, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\n");
  CHECK_THAT(error_of([&] {
               read_all(path, {}, {20, 100});
             }),
             Catch::Contains("a.jsonl:3:7: invalid JSON: "));
}

namespace {

// Every `step`th truncation of the file, and so many bit flips.
void check_damaged(const std::string& name, size_t step, int flips, bool every_cut_is_found) {
  const TempFolder folder;
  std::mt19937 random(7);
  const std::string good = get_file(data_case(name));
  const auto path = folder / name;
  CAPTURE(name);
  for (size_t length = 0; length < good.size(); length += step) {
    CAPTURE(length);
    put_file(path, good.substr(0, length));
    CHECK(ends_well(path, with_template()));
    if (every_cut_is_found) CHECK(error_of([&] { read_all(path, with_template()); }) != "no error");
  }
  for (int i = 0; i < flips; ++i) {
    std::string bad = good;
    const size_t byte = random() % bad.size();
    bad[byte] = static_cast<char>(bad[byte] ^ (1 << random() % 8));
    CAPTURE(byte);
    put_file(path, bad);
    CHECK(ends_well(path, with_template()));
  }
}

}  // namespace

TEST_CASE("damaged files are read to an end or refused", "[documents]") {
  for (const char* name : {"alpaca.jsonl", "alpaca.json", "alpaca.csv", "chat.jsonl"}) {
    check_damaged(name, 1, 400, false);
  }
  for (const char* name : {"sharegpt.json", "alpaca.jsonl.gz", "alpaca.csv.zst"}) {
    check_damaged(name, 1, 400, true);
  }
}

TEST_CASE("damaged Parquet is refused", "[documents]") {
  if (!reads_parquet()) return;
  for (const char* name :
       {"alpaca-snappy.parquet", "alpaca-types.parquet", "alpaca-nulls.parquet", "chat.parquet"}) {
    check_damaged(name, 17, 150, true);
  }
}

TEST_CASE("packed files that are cut off or followed by other bytes name the byte", "[documents]") {
  const std::string gz = get_file(data_case("alpaca.jsonl.gz"));
  const std::string zst = get_file(data_case("alpaca.jsonl.zst"));
  const std::string end = std::to_string(gz.size());
  CHECK(fault("a.jsonl.gz", gz.substr(0, 99)) ==
        "a.jsonl.gz: byte 99: expected more gzip data, got the end of the file (is it cut off?)");
  CHECK(fault("a.jsonl.gz", gz + "x") ==
        "a.jsonl.gz: byte " + std::to_string(gz.size() + 1) +
            ": expected more gzip data, got the end of the file (is it cut off?)");
  CHECK(fault("a.jsonl.gz", gz + "xy") == "a.jsonl.gz: byte " + std::to_string(gz.size() + 2) +
                                              ": invalid gzip data: incorrect header check");
  CHECK(fault("a.jsonl.gz", gz + gz) == "no error");
  CHECK(fault("a.jsonl.zst", zst + zst) == "no error");
  CHECK_THAT(fault("a.jsonl.zst", zst.substr(0, 99)),
             Catch::StartsWith("a.jsonl.zst: byte 99: expected more Zstandard data"));
  CHECK(fault("a.jsonl.gz", "") == "a.jsonl.gz: expected gzip data, got an empty file");
  CHECK_THAT(fault("a.jsonl.gz", "{\"text\": \"a\"}"),
             Catch::Contains(": invalid gzip data: incorrect header check"));
}
