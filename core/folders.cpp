// SPDX-License-Identifier: Apache-2.0
#include "core/folders.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <regex>

#include "core/error.h"
#include "core/file.h"

namespace tenon {
namespace {

using files::Path;

// What a writer left: `NAME.tmp.<hex>` or `.NAME.tmp.<pid>.<hex>`, unfinished; `NAME.old.<hex>`,
// which a finished one was to replace.
struct Leftover {
  std::string name;
  bool replaced;
};

// Nothing is taken for one that a person may have named so: the random part has at least 8 digits.
std::optional<Leftover> leftover_of(const Path& path) {
  static const std::regex folder(R"((.+)\.(tmp|old)\.[0-9a-f]{8,16})");
  static const std::regex file(R"(\.(.+)\.(tmp)\.[0-9]+\.[0-9a-f]{8,16})");
  const std::string name = path.filename().native();
  std::smatch parts;
  if (!std::regex_match(name, parts, file) && !std::regex_match(name, parts, folder))
    return std::nullopt;
  return Leftover{parts[1].str(), parts[2] == "old"};
}

// Removes a leftover, or gives it back its name where nothing has that.
void clear(const Path& path, bool replaced, const Path& target) {
  if (replaced && !files::exists(target) && !files::is_link(target)) {
    files::rename(path, target);
  } else {
    files::remove_tree(path);
  }
}

// Clears it where no process holds the lock that its writer took, and under that lock: a writer that
// only just made it waits, and finds it gone. A lock for writing: file systems that have none on
// folders refuse it, and then nothing is known.
void clear_abandoned(const Path& path, bool replaced, const Path& target) {
  const int flags = files::is_folder(path) ? O_RDONLY : O_RDWR;
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return;
  try {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) clear(path, replaced, target);
  } catch (const Error&) {  // it is litter, and stays for the next
  }
  ::close(fd);
}

// Puts `fresh` in the place of `target`; returns where what was there is now, or "".
Path take_place(TemporaryFolder& fresh, const Path& target) {
  if (!files::exists(target)) {
    files::rename(fresh.path(), target);
    fresh.release();
    return {};
  }
  Path old = fresh.path();
  if (!files::exchange(old, target)) {  // a file system without exchange
    old = unique_sibling(target, "old");
    files::rename(target, old);
    try {
      files::rename(fresh.path(), target);
    } catch (const Error&) {
      files::rename(old, target);
      throw;
    }
  }
  fresh.release();
  return old;
}

}  // namespace

TemporaryFolder::TemporaryFolder(const Path& target) {
  while (fd_ < 0) {
    path_ = unique_sibling(target);
    if (::mkdir(path_.c_str(), 0777) != 0) {
      if (errno == EEXIST) continue;
      fail_system(path_, "be created", errno);
    }
    fd_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd_ < 0 && errno != ENOENT) {
      const int error = errno;
      ::rmdir(path_.c_str());
      fail_system(path_, "be opened", error);
    }
    if (fd_ < 0) continue;
    // Another process may have found it without its lock and removed it: then once more.
    ::flock(fd_, LOCK_SH);
    struct stat made {
    }, named{};
    const bool there = ::fstat(fd_, &made) == 0 && ::stat(path_.c_str(), &named) == 0;
    if (there && made.st_ino == named.st_ino) return;
    ::close(fd_);
    fd_ = -1;
  }
}

TemporaryFolder::~TemporaryFolder() {
  if (!path_.empty()) files::discard_tree(path_);
  if (fd_ >= 0) ::close(fd_);
}

std::string replace_folder(const Path& target, const FillFolder& fill) {
  const Path place = files::is_link(target) ? files::real(target) : files::absolute(target);
  remove_abandoned(place);
  Path old;
  {
    TemporaryFolder fresh(place);
    fill(fresh.path());
    sync_directory(fresh.path());
    old = take_place(fresh, place);
  }
  // Before the old one goes: or a power cut could leave neither.
  sync_directory(place.parent_path());
  if (old.empty()) return "";
  try {
    files::remove_tree(old);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string put_folder(const Path& target, const FillFolder& fill) {
  const std::vector<Path> made = files::make_folders(files::absolute(target).parent_path());
  try {
    return replace_folder(target, fill);
  } catch (...) {
    for (auto path = made.rbegin(); path != made.rend(); ++path) ::rmdir(path->c_str());
    throw;
  }
}

void remove_abandoned(const Path& path) noexcept {
  try {
    const Path whole = files::absolute(path);
    const std::string name = whole.filename().native().substr(0, kTemporaryStem);
    for (const Path& beside : files::list(whole.parent_path())) {
      const std::optional<Leftover> leftover = leftover_of(beside);
      if (leftover && leftover->name == name) clear_abandoned(beside, leftover->replaced, whole);
    }
  } catch (...) {
    return;
  }
}

void remove_leftovers(const Path& folder) {
  if (!files::is_folder(folder)) return;
  for (const Path& path : files::list(folder)) {
    if (const auto leftover = leftover_of(path))
      clear(path, leftover->replaced, folder / leftover->name);
  }
}

}  // namespace tenon
