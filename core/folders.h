// SPDX-License-Identifier: Apache-2.0
// Folders that are there complete or not at all, and what interrupted writers leave beside them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/files.h"

namespace tenon {

// A folder in the making: `NAME.tmp.<hex>` beside `target`, which has to be there later on. It goes
// with this object unless release() was called, and is locked meanwhile, so that
// remove_abandoned() of another process leaves it alone.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const files::Path& target);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const files::Path& path() const { return path_; }
  void release() { path_.clear(); }

 private:
  files::Path path_;
  int fd_ = -1;
};

// Replaces the folder `target` by what `fill(folder)` writes: complete or as it was, and durable.
// What was there before is removed last; returns why that failed, or "": the result stands all the
// same, and the next writer removes it.
using FillFolder = std::function<void(const files::Path& folder)>;
std::string replace_folder(const files::Path& target, const FillFolder& fill);
// The same with the folders above `target`: they are made, and go again where it fails.
std::string put_folder(const files::Path& target, const FillFolder& fill);

// Removes what writers of `path` that are no more left beside it (best effort: it is only litter),
// but gives back its name to what a writer had put aside and did not replace.
void remove_abandoned(const files::Path& path) noexcept;

// The same for everything in a folder. Requires: nobody else writes there.
void remove_leftovers(const files::Path& folder);

}  // namespace tenon
