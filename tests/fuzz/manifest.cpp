// SPDX-License-Identifier: Apache-2.0
// train/checkpoint.h: a checkpoint's manifest, and the state of its run. The manifest's checksum is
// put right here where the text is JSON, or nothing would get past it.
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "tests/fuzz/fuzz.h"
#include "train/checkpoint.h"

using namespace tenon;

namespace {

std::string sealed(std::string_view text) {
  if (!fuzz::accepts([&] { parse_json(text, "f"); })) return std::string(text);
  auto manifest = nlohmann::ordered_json::parse(text);
  if (!manifest.is_object()) return std::string(text);
  manifest.erase("checksum");
  const std::string content = manifest.dump();
  manifest["checksum"] = fmt::format("{:016x}", hash_bytes(std::as_bytes(std::span(content))));
  return manifest.dump();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::filesystem::path checkpoint = [] {
    const auto folder = fuzz::folder() / "step-4";
    std::filesystem::create_directory(folder);
    test::put_file(folder / "state.safetensors", "tensors");
    test::put_file(folder / "trainer.json", "{}");
    return folder;
  }();
  const std::string_view text = fuzz::text_of(data, size);
  test::put_file(checkpoint / "manifest.json", sealed(text));
  fuzz::accepts([&] { fuzz::require(verify_checkpoint(checkpoint) == 4, "the folder's step"); });
  fuzz::accepts([&] {
    const TrainerState state = parse_state(std::string(text), "f");
    parse_state(state_text(state), "f");
  });
  return 0;
}
