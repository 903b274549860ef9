// SPDX-License-Identifier: Apache-2.0
// The kinds of rows that the table of options is made of: how text becomes a value of a field, and
// back.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "train/choices.h"
#include "train/options.h"

namespace tenon {

inline constexpr const char* kAuto = "auto";

OptionRow text_row(const char* name, std::string TrainOptions::*field, const char* help);
OptionRow choice_row(const char* name, std::string TrainOptions::*field,
                     std::vector<std::string> choices, const char* help);
template <class T, size_t N>
OptionRow choice_row(const char* name, std::string TrainOptions::*field,
                     const Choice<T> (&choices)[N], const char* help) {
  return choice_row(name, field, names_of(choices), help);
}
OptionRow integer_row(const char* name, int64_t TrainOptions::*field, int64_t least,
                      const char* help);
OptionRow number_row(const char* name, double TrainOptions::*field, double least, double most,
                     const char* help);
// What is not given is "auto", so that every number can be given.
OptionRow number_row(const char* name, std::optional<double> TrainOptions::*field, double least,
                     double most, const char* help);
// "auto" is 0.
OptionRow auto_row(const char* name, int64_t TrainOptions::*field, const char* help);
// Of --checkpoint-activations, and of an amount of memory; both may be "auto".
OptionRow checkpoint_row(const char* name, std::string TrainOptions::*field, const char* help);
OptionRow memory_row(const char* name, std::string TrainOptions::*field, const char* help);
OptionRow flag_row(const char* name, bool TrainOptions::*field, const char* help);
// Values may be given one by one or joined by commas where `commas` says so (names have none, paths
// may).
OptionRow list_row(const char* name, std::vector<std::string> TrainOptions::*field, bool commas,
                   const char* help);

}  // namespace tenon
