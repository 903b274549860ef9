// SPDX-License-Identifier: Apache-2.0
// Where a command may write: one answer for all commands. What is there is only overwritten with
// --force, and then only what Tenon made; what the command reads is never overwritten, by whatever
// name: another spelling, a link, a hard link, a folder that holds it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/files.h"

namespace tenon {

struct Output {
  std::string flag;  // for messages: "--out"
  files::Path path;
  bool force = false;
  std::vector<files::Path>
      inputs;  // files and folders that the command reads; empty ones count not
};

// These throw Error(kInput) where writing must not be. `kind` names what is written ("token file"),
// `is_ours` tells whether a file that is there, or one in a folder that is there, is of that kind.
using IsOurs = std::function<bool(const files::Path&)>;
void check_output_file(const Output& output, const std::string& kind, const IsOurs& is_ours);
// A folder that is replaced as a whole.
void check_output_folder(const Output& output, const std::string& kind, const IsOurs& is_ours);
// A folder of which `parts` (files or folders, there or not) are replaced and nothing else.
void check_output_parts(const Output& output, const std::vector<files::Path>& parts);

}  // namespace tenon
