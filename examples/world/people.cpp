// SPDX-License-Identifier: Apache-2.0
// Who lives in the valley, and what is true of them.
#include "examples/world/world.h"

namespace world {
namespace {

constexpr const char* kWomen[] = {"Ada",  "Anna",  "Berta", "Clara", "Dora",  "Edith",
                                  "Emma", "Flora", "Greta", "Hilda", "Ida",   "Irma",
                                  "Jana", "Karin", "Lena",  "Lydia", "Marta", "Mira",
                                  "Nora", "Olga",  "Petra", "Rosa",  "Vera",  "Zora"};
constexpr const char* kMen[] = {"Adam",  "Anton", "Basil", "Boris",  "Conrad", "David",
                                "Emil",  "Felix", "Georg", "Hans",   "Hugo",   "Ivan",
                                "Jonas", "Kurt",  "Leo",   "Martin", "Nils",   "Otto",
                                "Peter", "Ralph", "Simon", "Tomas",  "Victor", "Walter"};
constexpr const char* kVillages[] = {"Oakford",   "Millbrook",  "Stonebridge", "Ashfield",
                                     "Westhaven", "Riverton",   "Hillcrest",   "Elmswood",
                                     "Foxley",    "Brightwater"};
constexpr const char* kJobs[] = {"baker",   "miller", "carpenter", "teacher",  "doctor", "shepherd",
                                 "weaver",  "potter", "fisher",    "gardener", "tailor", "smith",
                                 "painter", "cook",   "builder",   "postman"};
constexpr const char* kAnimals[] = {"goat", "cat",    "dog",  "donkey", "goose", "horse",
                                    "owl",  "rabbit", "pony", "parrot", "hen",   "tortoise"};
constexpr const char* kFoods[] = {"plum cake",     "onion soup", "fresh bread",  "apple pie",
                                  "fried fish",    "bean stew",  "goat cheese",  "honey toast",
                                  "mushroom rice", "pancakes",   "potato salad", "roast duck",
                                  "pea soup",      "berry jam"};
constexpr const char* kColours[] = {"blue",  "red",   "green",  "yellow",
                                    "white", "black", "orange", "purple"};

// The values of a list dealt out in turn, so that each is about equally common, then mixed.
template <size_t N>
void deal(std::vector<Person>& people, Attribute attribute, const char* const (&values)[N],
          Random& random) {
  std::vector<std::string> dealt;
  for (size_t i = 0; i < people.size(); ++i) dealt.emplace_back(values[i % N]);
  random.shuffle(dealt);
  for (size_t i = 0; i < people.size(); ++i) people[i].facts[attribute] = dealt[i];
}

}  // namespace

std::vector<Person> make_people(Random& random) {
  std::vector<Person> people;
  for (const char* name : kWomen) people.push_back({name, true, {}});
  for (const char* name : kMen) people.push_back({name, false, {}});
  deal(people, kVillage, kVillages, random);
  deal(people, kJob, kJobs, random);
  deal(people, kAnimal, kAnimals, random);
  deal(people, kFood, kFoods, random);
  deal(people, kDoor, kColours, random);
  random.shuffle(people);
  for (size_t i = 0; i + 1 < people.size(); i += 2) {  // friends come in pairs
    people[i].facts[kFriend] = people[i + 1].name;
    people[i + 1].facts[kFriend] = people[i].name;
  }
  random.shuffle(people);
  return people;
}

}  // namespace world
