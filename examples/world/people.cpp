// SPDX-License-Identifier: Apache-2.0
// Who lives in the valley, and what is true of them.
#include "examples/world/world.h"

namespace world {
namespace {

constexpr const char* kWomen[] = {
    "Ada",   "Agnes", "Alma",  "Anna",  "Bella",  "Berta", "Cara",  "Celia", "Clara", "Dora",
    "Edith", "Ella",  "Elsa",  "Emma",  "Erica",  "Fanny", "Flora", "Frida", "Gerda", "Greta",
    "Hanna", "Hilda", "Ida",   "Ines",  "Irma",   "Jana",  "Julia", "Karin", "Lena",  "Lotte",
    "Lydia", "Magda", "Marta", "Mira",  "Nadia",  "Nelly", "Nora",  "Olga",  "Paula", "Petra",
    "Rosa",  "Sally", "Sonia", "Tilda", "Ursula", "Vera",  "Wanda", "Zora"};
constexpr const char* kMen[] = {
    "Adam",   "Albert", "Anton",  "Arno",   "Basil",  "Ben",   "Boris",  "Bruno", "Carl",  "Cedric",
    "Conrad", "David",  "Edgar",  "Emil",   "Eric",   "Felix", "Frank",  "Fritz", "Georg", "Gustav",
    "Hans",   "Harald", "Henry",  "Hugo",   "Igor",   "Ivan",  "Jacob",  "Jonas", "Karl",  "Kurt",
    "Leo",    "Lukas",  "Marco",  "Martin", "Max",    "Nils",  "Oscar",  "Otto",  "Paul",  "Peter",
    "Ralph",  "Robert", "Rudolf", "Simon",  "Stefan", "Tomas", "Victor", "Walter"};
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
