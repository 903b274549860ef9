// SPDX-License-Identifier: Apache-2.0
// The names of the file system: looked at, listed, made, moved and removed. The one place where the
// system is asked; a call that it refuses becomes one line with the path, what was being done and
// the system's reason. What the C++ library throws of its own never reaches a user.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

// Throws for a call that the system refused: "PATH: could not DOING: REASON", with the free bytes
// where there is no room. Error(kInput) for a path that leads nowhere (a file where a folder must
// be, a name too long, links in a circle), Error(kMemory) for memory, Error(kIo) for all else.
[[noreturn]] void fail_system(const std::filesystem::path& path, std::string_view doing, int error);

namespace files {

using Path = std::filesystem::path;

// What a path names in the end, through links. A dangling link names nothing.
enum class Kind : uint8_t { kNothing, kFile, kFolder, kOther };
Kind kind(const Path& path);
inline bool exists(const Path& path) { return kind(path) != Kind::kNothing; }
inline bool is_file(const Path& path) { return kind(path) == Kind::kFile; }
inline bool is_folder(const Path& path) { return kind(path) == Kind::kFolder; }
// True for a link, wherever it leads.
bool is_link(const Path& path);
// True where both are there and are one: by whatever spelling, link or hard link.
bool same(const Path& a, const Path& b);
int64_t size(const Path& path);
int64_t modified_ns(const Path& path);  // nanoseconds since 1970

// What lies in a folder, sorted, each with the folder in front; in `files_below` the regular files
// at any depth, relative to it.
std::vector<Path> list(const Path& folder);
std::vector<Path> files_below(const Path& folder);

// Without ".", "..", doubled slashes and one at the end, from the root on; `real` with links
// resolved as far as there is something.
Path absolute(const Path& path);
Path real(const Path& path);
Path link_target(const Path& link);
// Where files go that are of no use to others: TMPDIR, or /tmp. Throws Error(kEnvironment) where it
// is no folder.
Path temporary_folder();

// Makes a folder that may be there, durably; the one above it has to be. True where it was made.
bool make_folder(const Path& folder);
// The same with those above it that are not there. Returns what was made, outermost first; made in
// part it is taken back.
std::vector<Path> make_folders(const Path& folder);
// Removes a file, a link or an empty folder; a folder with all that is in it. Nothing there is fine.
void remove(const Path& path);
void remove_tree(const Path& path);
// remove_tree() as far as it goes, where another error is on its way.
void discard_tree(const Path& path) noexcept;
void rename(const Path& from, const Path& to);
// Swaps two names at one stroke; false where the file system cannot.
bool exchange(const Path& a, const Path& b);
// A second name for a regular file's bytes, or a copy of them where there are no hard links; of a
// link another that leads to the same.
void link_or_copy(const Path& from, const Path& to);

}  // namespace files
}  // namespace tenon
