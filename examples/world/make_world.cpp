// SPDX-License-Identifier: Apache-2.0
// tenon_world DIR: writes the demo's world into DIR, the same bytes on every machine.
//   corpus.jsonl      {"text": ...}: documents to train a model on from random weights
//   qa_train.jsonl    {"prompt": ..., "completion": ...}: questions about most people, in every wording
//   qa_val.jsonl      about a few others, to watch the training
//   qa_test.jsonl     about others again: what the demo scores. Their facts are in the corpus, but
//                     no question about them is anywhere
//   tokenizer.json    a byte-level BPE vocabulary learnt from all but qa_val and qa_test
//   config.json       a GPT-2 for it
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "examples/world/bpe_trainer.h"
#include "examples/world/world.h"

namespace {

using Json = nlohmann::ordered_json;
using namespace world;

constexpr uint64_t kSeed = 1;
constexpr size_t kDocuments = 16000;
constexpr size_t kTestPeople = 10, kValPeople = 4;
constexpr size_t kVocabulary = 1280;
constexpr const char* kEndOfText = "<|endoftext|>";

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw std::runtime_error(path.string() + ": cannot be written");
}

std::string line_of(const Question& question) {
  return Json{{"prompt", question.prompt}, {"completion", question.completion}}.dump() + "\n";
}

Json config(size_t vocabulary) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"activation_function", "gelu_new"},
          {"n_layer", 4},
          {"n_embd", 256},
          {"n_head", 4},
          {"n_inner", nullptr},
          {"n_positions", 256},
          {"vocab_size", vocabulary},
          {"layer_norm_epsilon", 1e-5},
          {"initializer_range", 0.02},
          {"attn_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"resid_pdrop", 0.0},
          {"scale_attn_weights", true},
          {"scale_attn_by_inverse_layer_idx", false},
          {"reorder_and_upcast_attn", false},
          {"tie_word_embeddings", true},
          {"bos_token_id", vocabulary - 1},
          {"eos_token_id", vocabulary - 1}};
}

void make_world(const std::filesystem::path& folder) {
  Random random(kSeed);
  const std::vector<Person> people = make_people(random);
  BpeTrainer trainer;

  std::string corpus;
  for (size_t i = 0; i < kDocuments; ++i) {
    const std::string document = make_document(people, random);
    trainer.add(document);
    corpus += Json{{"text", document}}.dump() + "\n";
  }

  std::string train, val, test;
  for (size_t i = 0; i < people.size(); ++i) {
    for (int attribute = 0; attribute < kAttributes; ++attribute) {
      const std::vector<Question> questions =
          questions_about(people[i], static_cast<Attribute>(attribute));
      if (i < kTestPeople) {
        test += line_of(random.pick(questions));
      } else if (i < kTestPeople + kValPeople) {
        val += line_of(random.pick(questions));
      } else {
        for (const Question& question : questions) {
          trainer.add(question.prompt + question.completion);
          train += line_of(question);
        }
      }
    }
  }

  const std::string tokenizer = trainer.train(kVocabulary, kEndOfText);
  const size_t vocabulary = Json::parse(tokenizer)["model"]["vocab"].size();
  std::filesystem::create_directories(folder);
  write(folder / "corpus.jsonl", corpus);
  write(folder / "qa_train.jsonl", train);
  write(folder / "qa_val.jsonl", val);
  write(folder / "qa_test.jsonl", test);
  write(folder / "tokenizer.json", tokenizer);
  write(folder / "tokenizer_config.json", Json{{"tokenizer_class", "GPT2Tokenizer"},
                                               {"model_max_length", 256},
                                               {"bos_token", kEndOfText},
                                               {"eos_token", kEndOfText},
                                               {"add_prefix_space", false}}
                                                  .dump(1) +
                                              "\n");
  write(folder / "config.json", config(vocabulary).dump(1) + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tenon_world DIR\n");
    return 2;
  }
  try {
    make_world(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tenon_world: %s\n", error.what());
    return 6;
  }
  return 0;
}
