// SPDX-License-Identifier: Apache-2.0
#include "core/output.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"

namespace tenon {
namespace {

using files::Kind;
using files::Path;

// "--out run", as messages begin.
std::string named(const Output& output) {
  return fmt::format("{} {}", output.flag, shown(output.path));
}

// True where `path` is `folder` or lies below it.
bool lies_in(const Path& path, const Path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first ==
         folder.end();
}

void check_no_dangling_link(const Output& output, const char* expected) {
  if (!files::exists(output.path) && files::is_link(output.path))
    fail_input("{}: expected {}, got a dangling symbolic link", named(output), expected);
}

void check_above(const Output& output) {
  Path above = files::absolute(output.path).parent_path();
  while (!files::exists(above) && above.has_relative_path()) above = above.parent_path();
  if (files::is_folder(above)) return;
  fail_input("{}: expected a folder above it, got {}", named(output), shown(above));
}

void check_another_folder(const Output& output) {
  for (const Path& input : output.inputs) {
    if (input.empty() || !files::same(output.path, input)) continue;
    fail_input("{}: expected another folder than {}, which is read", named(output), shown(input));
  }
}

void check_apart(const Output& output, const std::vector<Path>& parts) {
  for (const Path& part : parts) {
    const Path replaced = files::real(part);
    for (const Path& input : output.inputs) {
      if (input.empty()) continue;
      if (!files::same(part, input) && !lies_in(files::real(input), replaced)) continue;
      fail_input("{}: would replace {}, which is read", named(output), shown(input));
    }
  }
}

}  // namespace

void check_output_parts(const Output& output, const std::vector<Path>& parts) {
  check_above(output);
  check_another_folder(output);
  check_apart(output, parts);
}

void check_output_file(const Output& output, const std::string& kind, const IsOurs& is_ours) {
  check_above(output);
  const Kind there = files::kind(output.path);
  if (there == Kind::kFolder || there == Kind::kOther) {
    fail_input("{}: expected a file to write, got {}", named(output),
               there == Kind::kFolder ? "a folder" : "what is no file");
  }
  check_no_dangling_link(output, "a file to write");
  if (there == Kind::kNothing) return;
  check_apart(output, {output.path});
  if (!output.force) fail_input("{}: exists already (--force replaces it)", named(output));
  if (files::size(output.path) > 0 && !is_ours(output.path)) {
    fail_input("{}: is no {} that tenon wrote: --force replaces nothing else", named(output), kind);
  }
}

void check_output_folder(const Output& output, const std::string& kind, const IsOurs& is_ours) {
  check_above(output);
  check_no_dangling_link(output, "a folder");
  const Kind there = files::kind(output.path);
  if (there == Kind::kNothing) return;
  if (there != Kind::kFolder) fail_input("{}: expected a folder, got a file", named(output));
  check_another_folder(output);
  const std::vector<Path> entries = files::list(output.path);
  if (!entries.empty() && !output.force) {
    fail_input("{}: exists and is not empty (--force overwrites its {})", named(output), kind);
  }
  for (const Path& entry : entries) {
    if (is_ours(entry)) continue;
    fail_input("{}: holds {}, which is no part of a {}: --force overwrites {}s only", named(output),
               shown(entry.filename()), kind, kind);
  }
  check_apart(output, {output.path});
}

}  // namespace tenon
