// SPDX-License-Identifier: Apache-2.0
// Unicode's four normalization forms, by utf8proc. Its tables may be newer than those of Hugging
// Face's tokenizers (which are of Unicode 13): marks that are newer still are put in order here and
// left in place there.
#pragma once

#include <string>
#include <string_view>

namespace tenon {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// Requires: text is valid UTF-8.
std::string normalize(std::string_view text, NormalForm form);

}  // namespace tenon
