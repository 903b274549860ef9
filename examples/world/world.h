// SPDX-License-Identifier: Apache-2.0
// A small made-up world: people of a valley, six facts about each, and the sentences that tell
// them. The same world comes out on every machine.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace world {

enum Attribute { kVillage, kJob, kAnimal, kFood, kDoor, kFriend, kAttributes };

struct Person {
  std::string name;
  bool female = false;
  std::array<std::string, kAttributes>
      facts;  // "Oakford", "baker", "goat", "plum cake", "blue", "Tomas"
};

struct Question {
  std::string prompt;      // "Question: Where does Mira live?\nAnswer:"
  std::string completion;  // " Mira lives in Oakford."
};

// Random choices that do not depend on the standard library's distributions.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // A number in [0, count).
  size_t below(size_t count) { return static_cast<size_t>(engine_() % count); }
  bool chance(double p) { return static_cast<double>(engine_() >> 11) * 0x1p-53 < p; }
  template <class List>
  const auto& pick(const List& list) {
    return list[below(std::size(list))];
  }
  template <class T>
  void shuffle(std::vector<T>& list) {
    for (size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[below(i)]);
  }

 private:
  std::mt19937_64 engine_;
};

// The 48 people, in an order that has nothing to do with their facts.
std::vector<Person> make_people(Random& random);

// One document: a portrait, a village, a comparison, a talk or a day, in a few sentences. No
// document holds a question about a person's facts.
std::string make_document(const std::vector<Person>& people, Random& random);

// Every way to ask for one fact; the answer is always the same sentence.
std::vector<Question> questions_about(const Person& person, Attribute attribute);

}  // namespace world
