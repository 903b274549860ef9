// SPDX-License-Identifier: Apache-2.0
// The README.md of a result: a model card as Hugging Face and PEFT have it. It says nothing of when
// and where a run took place: the same run has the same card.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace tenon {

inline constexpr const char* kModelCard = "README.md";

struct ModelCard {
  using Rows = std::vector<std::pair<std::string, std::string>>;

  std::string base;     // the model folder, as it was given
  bool adapter = true;  // else a whole model
  bool chat = false;    // prompts are conversations
  std::vector<std::string> tags;
  std::string summary;  // a sentence or two
  Rows data, method, figures;
};

// With the licence that the base's own card states.
void write_model_card(const ModelCard& card, const std::filesystem::path& folder);

// The licence in the header of a folder's README.md; "" where none is stated.
std::string stated_license(const std::filesystem::path& folder);

}  // namespace tenon
