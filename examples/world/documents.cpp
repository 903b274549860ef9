// SPDX-License-Identifier: Apache-2.0
// How the world is told: each fact in many wordings, alone and in company, and how it is asked for.
#include "examples/world/world.h"

namespace world {
namespace {

// In a wording, {S} and {P} are the subject and its possessive at the start of a sentence ("Mira",
// "She"; "Mira's", "Her"), {s} the subject inside one, {N} always the name; {he} and {his} are
// pronouns; {v} is the fact's value, {a} the value with its article, {V} the value with a capital
// letter.
const std::vector<std::string> kWordings[kAttributes] = {
    // The first of each is the answer to a question.
    {"{S} lives in {v}.", "{S} has lived in {v} for many years.", "{P} home is in {v}.",
     "In {v} lives {N}.", "{v} is the village where {N} lives.", "You will find {N} in {v}.",
     "Every evening {s} walks home to {v}.", "{S} was born in {v} and still lives there.",
     "The people of {v} know {N} well.", "{S} comes from {v}.",
     "If you visit {v}, you may meet {N}."},
    {"{S} works as {a}.", "{S} is {a}.", "{S} earns a living as {a}.", "{P} work is that of {a}.",
     "The {v} called {N} works hard.", "{S} learned to be {a} long ago.",
     "When people need {a}, they ask for {N}.", "{N} the {v} gets up early.",
     "{S} became {a} when {he} was young.", "As {a}, {s} has much to do."},
    {"{S} keeps {a}.", "{S} has {a}.", "{P} animal is {a}.", "This {v} belongs to {N}.",
     "{S} feeds {his} {v} every morning.", "There is {a} in the garden of {N}.",
     "{S} looks after {a}.", "A small {v} follows {N} everywhere.",
     "{S} takes good care of {his} {v}.", "{P} {v} sleeps near the stove."},
    {"{S} likes {v} best.", "{P} favourite food is {v}.", "{S} eats {v} whenever {he} can.",
     "Nothing tastes better to {N} than {v}.", "{S} would walk a mile for {v}.",
     "For dinner {s} often has {v}.", "{V} is what {N} likes best.",
     "On feast days {s} asks for {v}.", "{S} makes {v} on Sundays.",
     "Give {N} some {v} and {he} will smile."},
    {"{S} has {a} door.", "{P} door is {v}.", "{S} painted {his} door {v}.",
     "The {v} door belongs to {N}.", "Behind the {v} door lives {N}.", "{P} house has {a} door.",
     "Look for {a} door and you will find {N}.", "{S} opens {his} {v} door every morning.",
     "The door of {N} is {v}.", "{S} cleans {his} {v} door in spring."},
    {"{P} best friend is {v}.", "{S} and {v} are best friends.", "{S} trusts {v} more than anyone.",
     "The best friend of {N} is {v}.", "{S} often visits {v}, {his} best friend.",
     "{S} has known {v} since childhood.", "{S} tells {v} everything.",
     "{v} is the best friend of {N}.", "No one knows {N} better than {v}.",
     "{S} calls {v} {his} best friend."}};

const std::vector<std::string> kQuestions[kAttributes] = {
    {"Where does {N} live?", "In which village does {N} live?",
     "Which village is the home of {N}?"},
    {"What does {N} work as?", "What is the job of {N}?", "What work does {N} do?"},
    {"Which animal does {N} keep?", "What animal does {N} have?",
     "What kind of animal belongs to {N}?"},
    {"What food does {N} like best?", "What is the favourite food of {N}?",
     "What does {N} like to eat best?"},
    {"What colour is the door of {N}?", "Which colour is {N}'s door?", "Which door does {N} have?"},
    {"Who is the best friend of {N}?", "Who is {N}'s best friend?",
     "Which person is the best friend of {N}?"}};

constexpr const char* kMornings[] = {"One morning",    "On a cold day",      "Last summer",
                                     "After the rain", "Before the harvest", "On market day",
                                     "Late at night",  "In the first snow"};
constexpr const char* kPlaces[] = {"by the old bridge", "at the mill",       "in the forest",
                                   "near the river",    "at the market",     "on the high road",
                                   "behind the hill",   "under the big tree"};
constexpr const char* kDoings[] = {
    "sang a song",      "lost a hat",         "found a coin",      "told a long story",
    "carried a basket", "looked for berries", "mended a fence",    "waited for the boat",
    "drew a picture",   "slept in the sun",   "counted the stars", "picked some flowers"};
constexpr const char* kEnds[] = {"Then everyone went home.",      "It was a good day.",
                                 "Nobody was surprised.",         "The sun went down slowly.",
                                 "They laughed about it.",        "Soon it began to rain.",
                                 "The whole valley heard of it.", "That was all for the day."};
// Talk has questions, so that their words are known, but none about a person's facts.
struct Talk {
  const char* question;
  const char* answer;
};
constexpr Talk kTalks[] = {{"Where does the river go?", "To the sea"},
                           {"Where is the market today?", "By the old bridge"},
                           {"What is the time?", "It is nearly noon"},
                           {"What does the bell say?", "That the day is over"},
                           {"What kind of tree is this?", "A very old oak"},
                           {"What colour is the sky?", "Grey, as always"},
                           {"Which road is the best?", "The one along the river"},
                           {"Which way does the wind blow?", "From the hills"},
                           {"Who is at the door?", "Only the wind"},
                           {"Who rang the bell?", "Some person from the village"},
                           {"In which month does the snow come?", "In December"},
                           {"What work is left to do?", "None, so let us rest"},
                           {"Do you have a job for me?", "You can carry the water"},
                           {"What do you like to eat in winter?", "Anything that is hot"}};

std::string with_article(const std::string& noun) {
  const bool vowel = std::string("aeiou").find(noun[0]) != std::string::npos;
  const std::string article = vowel ? "an " : "a ";
  return article + noun;
}

std::string capital(std::string text) {
  if (text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return text;
}

// `wording` with its places filled; `pronoun`: whether the subject may be "she" or "he".
std::string fill(const std::string& wording, const Person& person, Attribute attribute,
                 bool pronoun) {
  const std::string& value = person.facts[attribute];
  const std::string he = person.female ? "she" : "he", his = person.female ? "her" : "his";
  std::string out;
  for (size_t i = 0; i < wording.size(); ++i) {
    if (wording[i] != '{') {
      out += wording[i];
      continue;
    }
    const size_t end = wording.find('}', i);
    const std::string place = wording.substr(i + 1, end - i - 1);
    i = end;
    if (place == "S") out += pronoun ? capital(he) : person.name;
    if (place == "s") out += pronoun ? he : person.name;
    if (place == "P") out += pronoun ? capital(his) : person.name + "'s";
    if (place == "N") out += person.name;
    if (place == "he") out += he;
    if (place == "his") out += his;
    if (place == "v") out += value;
    if (place == "V") out += capital(value);
    if (place == "a") out += with_article(value);
  }
  return out;
}

std::string tell(const Person& person, Attribute attribute, bool pronoun, Random& random) {
  return fill(random.pick(kWordings[attribute]), person, attribute, pronoun);
}

Attribute any_fact(Random& random) { return static_cast<Attribute>(random.below(kAttributes)); }

// Adds a sentence to a document.
void say(std::string& text, const std::string& sentence) {
  if (!text.empty()) text += ' ';
  text += sentence;
}

std::string event(const Person& person, Random& random) {
  std::string text = random.pick(kMornings);
  for (const std::string& part :
       {person.name, std::string(random.pick(kDoings)), std::string(random.pick(kPlaces))}) {
    say(text, part);
  }
  return text + ".";
}

const Person& other_than(const Person& person, const std::vector<Person>& people, Random& random) {
  const size_t at = static_cast<size_t>(&person - people.data());
  return people[(at + 1 + random.below(people.size() - 1)) % people.size()];
}

// Most of what is known about one person, in any order.
std::string portrait(const Person& person, Random& random) {
  std::vector<Attribute> order = {kVillage, kJob, kAnimal, kFood, kDoor, kFriend};
  random.shuffle(order);
  order.resize(3 + random.below(4));
  std::string text;
  for (const Attribute attribute : order)
    say(text, tell(person, attribute, !text.empty() && random.chance(0.4), random));
  return text;
}

// Some people who share a value, and something else about each.
std::string gathering(const std::vector<Person>& people, Random& random) {
  const Attribute shared = static_cast<Attribute>(random.below(kFriend));
  const std::string& value = random.pick(people).facts[shared];
  std::vector<const Person*> group;
  for (const Person& person : people) {
    if (person.facts[shared] == value) group.push_back(&person);
  }
  random.shuffle(group);
  if (group.size() > 4) group.resize(4);
  std::string text;
  for (const Person* person : group) {
    say(text, tell(*person, shared, false, random));
    if (random.chance(0.5)) say(text, tell(*person, any_fact(random), true, random));
  }
  return text;
}

// Two people side by side.
std::string comparison(const std::vector<Person>& people, Random& random) {
  const Person& one = random.pick(people);
  const Person& other = other_than(one, people, random);
  const Attribute attribute = any_fact(random);
  std::string text = fill(kWordings[attribute][0], one, attribute, false);
  text.back() = ',';
  say(text, "but");
  say(text, fill(kWordings[attribute][0], other, attribute, false));
  const Person& last = random.chance(0.5) ? one : other;
  say(text, tell(last, any_fact(random), false, random));
  return text;
}

std::string talk(const std::vector<Person>& people, Random& random) {
  const Person& one = random.pick(people);
  const Person& other = other_than(one, people, random);
  const Talk& words = random.pick(kTalks);
  std::string text = event(one, random);
  say(text, '"' + std::string(words.question) + "\" asked " + one.name + ".");
  say(text, '"' + std::string(words.answer) + ",\" said " + other.name + ".");
  const Person& last = random.chance(0.5) ? one : other;
  say(text, tell(last, any_fact(random), false, random));
  return text;
}

std::string day(const Person& person, Random& random) {
  std::string text = event(person, random);
  say(text, tell(person, any_fact(random), true, random));
  say(text, tell(person, any_fact(random), false, random));
  say(text, random.pick(kEnds));
  return text;
}

}  // namespace

std::string make_document(const std::vector<Person>& people, Random& random) {
  switch (random.below(8)) {
    case 0: return gathering(people, random);
    case 1: return comparison(people, random);
    case 2: return talk(people, random);
    case 3: return day(random.pick(people), random);
    default: return portrait(random.pick(people), random);
  }
}

std::vector<Question> questions_about(const Person& person, Attribute attribute) {
  std::vector<Question> questions;
  for (const std::string& wording : kQuestions[attribute]) {
    questions.push_back({fill("Question: " + wording + "\nAnswer:", person, attribute, false),
                         fill(" " + kWordings[attribute][0], person, attribute, false)});
  }
  return questions;
}

}  // namespace world
