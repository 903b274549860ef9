// SPDX-License-Identifier: Apache-2.0
// What a template writes around an assistant's words: the header before them, which the model is
// given, and the marker behind them, which it says.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

// What a template writes for the assistant to go on from, with add_generation_prompt.
struct GenerationPrompt {
  std::string text;
  std::vector<size_t> cuts;  // where in it the template goes on from one literal to another
};

// The end of the header in `text`, which a template writes before what an assistant says (and with
// it, where `content_follows` is false: nothing of the message itself is written): as much of the
// generation prompt as stands there. Where the two go on differently the header ends between
// literals of either (those of the text end at `cuts`), or at least within no marker in brackets
// and no word. Nothing where the prompt does not stand there.
std::optional<size_t> header_within(std::string_view text, const std::vector<size_t>& cuts,
                                    const GenerationPrompt& prompt, bool content_follows);

// How much of `text`, which stands between what an assistant says and what another message says,
// ends the turn, the rest being the other's header: up to the end-of-text token, or else the first
// of several markers in brackets.
size_t end_of_turn(std::string_view text, std::string_view eos);

}  // namespace tenon
