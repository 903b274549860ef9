// SPDX-License-Identifier: Apache-2.0
#include "core/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "core/error.h"
#include "core/file.h"

namespace tenon {

void fail_system(const std::filesystem::path& path, std::string_view doing, int error) {
  const bool named_wrongly = error == ENOTDIR || error == ENAMETOOLONG || error == ELOOP;
  const Exit code = named_wrongly ? Exit::kInput : error == ENOMEM ? Exit::kMemory : Exit::kIo;
  std::string room;
  if (error == ENOSPC || error == EDQUOT) {
    const int64_t left = free_bytes(path.has_parent_path() ? path.parent_path() : ".");
    room = left < 0 ? "; free space unknown" : fmt::format("; {} bytes free", left);
  }
  fail(code, "{}: could not {}: {}{}", shown(path), doing, std::strerror(error), room);
}

namespace files {
namespace {

// False where there is nothing of that name.
bool look(const Path& path, bool through_links, struct stat& status) {
  const int result = through_links ? ::stat(path.c_str(), &status) : ::lstat(path.c_str(), &status);
  if (result == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  fail_system(path, "be looked at", errno);
}

struct stat look_at(const Path& path) {
  struct stat status {};
  if (!look(path, true, status)) fail_system(path, "be looked at", ENOENT);
  return status;
}

Path without_trailing_slash(const Path& path) {
  return path.has_filename() || !path.has_relative_path() ? path : path.parent_path();
}

// Goes on behind what it cannot remove; the first of that is thrown at the end.
void remove_all(const Path& path, std::optional<Error>& first) {
  const auto attempt = [&](auto&& action) {
    try {
      action();
    } catch (const Error& error) {
      if (!first) first = error;
    }
  };
  attempt([&] {
    struct stat status {};
    if (!look(path, false, status)) return;
    if (S_ISDIR(status.st_mode)) {
      attempt([&] {
        for (const Path& inside : list(path)) remove_all(inside, first);
      });
    }
    files::remove(path);
  });
}

void collect_files(const Path& folder, const Path& relative, std::vector<Path>& all) {
  for (const Path& path : list(folder)) {
    const Path name = relative / path.filename();
    struct stat status {};
    if (!look(path, false, status)) continue;
    if (S_ISDIR(status.st_mode)) {
      collect_files(path, name, all);
    } else if (is_file(path)) {
      all.push_back(name);
    }
  }
}

}  // namespace

Kind kind(const Path& path) {
  struct stat status {};
  if (!look(path, true, status)) return Kind::kNothing;
  if (S_ISREG(status.st_mode)) return Kind::kFile;
  return S_ISDIR(status.st_mode) ? Kind::kFolder : Kind::kOther;
}

bool is_link(const Path& path) {
  struct stat status {};
  return look(path, false, status) && S_ISLNK(status.st_mode);
}

bool same(const Path& a, const Path& b) {
  struct stat first {
  }, second{};
  return look(a, true, first) && look(b, true, second) && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

int64_t size(const Path& path) { return look_at(path).st_size; }

int64_t modified_ns(const Path& path) {
  const timespec time = look_at(path).st_mtim;
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

std::vector<Path> list(const Path& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(folder.c_str()), ::closedir);
  if (stream == nullptr) fail_system(folder, "be listed", errno);
  std::vector<Path> paths;
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(stream.get());
    if (entry == nullptr && errno != 0) fail_system(folder, "be listed", errno);
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") paths.push_back(folder / name);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<Path> files_below(const Path& folder) {
  std::vector<Path> all;
  collect_files(folder, "", all);
  std::sort(all.begin(), all.end());
  return all;
}

Path absolute(const Path& path) {
  Path whole = path;
  if (!path.is_absolute()) {
    const std::unique_ptr<char, void (*)(void*)> here(::getcwd(nullptr, 0), ::free);
    if (here == nullptr) fail_system(path, "be found from the current folder", errno);
    whole = Path(here.get()) / path;
  }
  return without_trailing_slash(whole.lexically_normal());
}

Path real(const Path& path) {
  std::error_code error;
  const Path found = std::filesystem::weakly_canonical(path, error);
  return error ? files::absolute(path) : without_trailing_slash(found);
}

Path link_target(const Path& link) {
  std::error_code error;
  Path target = std::filesystem::read_symlink(link, error);
  if (error) fail_system(link, "be followed", error.value());
  return target;
}

Path temporary_folder() {
  const char* const named = ::getenv("TMPDIR");
  if (named == nullptr || *named == '\0') return "/tmp";
  if (is_folder(named)) return named;
  fail(Exit::kEnvironment, "TMPDIR: expected a folder, got {}", shown(named));
}

bool make_folder(const Path& folder) {
  if (::mkdir(folder.c_str(), 0777) != 0) {
    const int error = errno;
    if (error == EEXIST && is_folder(folder)) return false;
    fail_system(folder, "be created", error == EEXIST ? ENOTDIR : error);
  }
  try {
    sync_directory(folder.parent_path());
  } catch (const Error&) {
    ::rmdir(folder.c_str());
    throw;
  }
  return true;
}

std::vector<Path> make_folders(const Path& folder) {
  std::vector<Path> missing, made;
  for (Path path = files::absolute(folder); !is_folder(path); path = path.parent_path()) {
    missing.push_back(path);
    if (!path.has_relative_path()) break;
  }
  try {
    for (auto path = missing.rbegin(); path != missing.rend(); ++path) {
      if (make_folder(*path)) made.push_back(*path);
    }
  } catch (const Error&) {
    for (; !made.empty(); made.pop_back()) ::rmdir(made.back().c_str());
    throw;
  }
  return made;
}

void remove(const Path& path) {
  struct stat status {};
  if (!look(path, false, status)) return;
  const bool folder = S_ISDIR(status.st_mode);
  if ((folder ? ::rmdir(path.c_str()) : ::unlink(path.c_str())) == 0 || errno == ENOENT) return;
  fail_system(path, "be removed", errno);
}

void remove_tree(const Path& path) {
  std::optional<Error> first;
  remove_all(path, first);
  if (first) throw Error(*first);
}

void discard_tree(const Path& path) noexcept {
  try {
    remove_tree(path);
  } catch (...) {  // what is left is swept by the next writer: see remove_abandoned()
    return;
  }
}

void rename(const Path& from, const Path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return;
  fail_system(from, fmt::format("be renamed to {}", shown(to.filename())), errno);
}

bool exchange(const Path& a, const Path& b) {
  if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return true;
  if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP) return false;
  fail_system(a, fmt::format("be swapped with {}", shown(b.filename())), errno);
}

void link_or_copy(const Path& from, const Path& to) {
  if (is_link(from)) {
    if (::symlink(link_target(from).c_str(), to.c_str()) == 0) return;
    fail_system(to, "be linked", errno);
  }
  if (::link(from.c_str(), to.c_str()) == 0) return;
  if (errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK && errno != ENOSYS)
    fail_system(to, "be linked", errno);
  write_text_atomic(to, MappedFile::open(from)->text());
}

}  // namespace files
}  // namespace tenon
