// SPDX-License-Identifier: Apache-2.0
// tenon_world_compare TENON MODEL ADAPTER QUESTIONS: what an adapter changed. Runs the `tenon`
// program on QUESTIONS (JSON lines with prompt and completion) with and without the adapter, counts
// the answers that are exactly the completion, measures the loss, and prints a table and some
// answers.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <nlohmann/json.hpp>

namespace {

using Json = nlohmann::json;

struct Question {
  std::string prompt, completion;
};

struct Result {
  double loss = 0, perplexity = 0;
  std::vector<std::string> answers;
  size_t right = 0;
};

std::string quoted(const std::string& argument) {
  std::string out = "'";
  for (const char c : argument) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// What the command prints on stdout. Throws when it fails.
std::string output_of(const std::vector<std::string>& arguments) {
  std::string command;
  for (const std::string& argument : arguments) command += quoted(argument) + " ";
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error(command + ": cannot be started");
  std::string output;
  char part[4096];
  for (size_t n; (n = fread(part, 1, sizeof part, pipe)) > 0;) output.append(part, n);
  const int status = pclose(pipe);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw std::runtime_error(command + ": failed");
  return output;
}

// Without white space at both ends.
std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \n"), last = text.find_last_not_of(" \n");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

std::vector<Question> read_questions(const std::string& path) {
  std::ifstream file(path);
  std::vector<Question> questions;
  for (std::string line; std::getline(file, line);) {
    const Json record = Json::parse(line);
    questions.push_back({record.at("prompt"), record.at("completion")});
  }
  if (questions.empty()) throw std::runtime_error(path + ": no questions");
  return questions;
}

// `base`: the arguments that name the model, and the adapter or not.
Result measure(const std::string& tenon, const std::vector<std::string>& base,
               const std::string& data, const std::vector<Question>& questions) {
  Result result;
  std::vector<std::string> evaluate = {tenon, "evaluate", "--data", data, "--task", "perplexity"};
  evaluate.insert(evaluate.end(), base.begin(), base.end());
  const Json report = Json::parse(output_of(evaluate));
  result.loss = report.at("loss");
  result.perplexity = report.at("perplexity");

  // A line for each question: the answer as a JSON string.
  std::vector<std::string> generate = {tenon, "generate", "--prompts", data, "--max-tokens", "24"};
  generate.insert(generate.end(), base.begin(), base.end());
  std::istringstream said(output_of(generate));
  for (std::string line; std::getline(said, line);) {
    result.answers.push_back(trimmed(Json::parse(line)));
  }
  if (result.answers.size() != questions.size())
    throw std::runtime_error(data + ": not as many answers as questions");
  for (size_t i = 0; i < questions.size(); ++i)
    result.right += result.answers[i] == trimmed(questions[i].completion);
  return result;
}

// The first line of `text`, cut to a width that fits a terminal.
std::string short_line(const std::string& text) {
  const std::string line = text.substr(0, text.find('\n'));
  return line.size() > 64 ? line.substr(0, 61) + "..." : line;
}

void print(const std::vector<Question>& questions, const Result& before, const Result& after) {
  const auto share = [&](const Result& r) {
    return std::to_string(r.right) + " of " + std::to_string(questions.size());
  };
  std::printf("\n%-24s %12s %12s\n", "questions never asked", "before", "after");
  std::printf("%-24s %12.4f %12.4f\n", "loss of the answers", before.loss, after.loss);
  std::printf("%-24s %12.2f %12.2f\n", "perplexity", before.perplexity, after.perplexity);
  std::printf("%-24s %12s %12s\n\n", "answers exactly right", share(before).c_str(),
              share(after).c_str());
  for (size_t i = 0; i < questions.size() && i < 36;
       i += 7) {  // one of each kind, about different people
    const std::string& prompt = questions[i].prompt;
    std::printf("%s\n  before: %s\n  after:  %s\n", prompt.substr(0, prompt.find('\n')).c_str(),
                short_line(before.answers[i]).c_str(), short_line(after.answers[i]).c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: tenon_world_compare TENON MODEL ADAPTER QUESTIONS\n");
    return 2;
  }
  try {
    const std::string tenon = argv[1], model = argv[2], adapter = argv[3], data = argv[4];
    const std::vector<Question> questions = read_questions(data);
    const Result before = measure(tenon, {"--model", model}, data, questions);
    const Result after = measure(tenon, {"--model", model, "--adapter", adapter}, data, questions);
    print(questions, before, after);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tenon_world_compare: %s\n", error.what());
    return 1;
  }
  return 0;
}
