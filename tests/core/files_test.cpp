// SPDX-License-Identifier: Apache-2.0
// Names in the file system, folders that are replaced, and what may be written over.
#include "core/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>

#include "core/folders.h"
#include "core/output.h"
#include "tests/core/temp_folder.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;
using files::Kind;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::path& path : files::list(folder)) names.push_back(path.filename().string());
  return names;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("a call that the system refuses is told with path, act and reason", "[files]") {
  const auto told = [](int error) {
    return error_of([&] { fail_system("/tmp/a\nb", "be renamed to c", error); });
  };
  CHECK(told(EIO) == "6: /tmp/a\\nb: could not be renamed to c: Input/output error");
  CHECK(told(EROFS) == "6: /tmp/a\\nb: could not be renamed to c: Read-only file system");
  CHECK(told(ENOMEM).starts_with("7: "));
  for (const int error : {ENOTDIR, ENAMETOOLONG, ELOOP}) CHECK(told(error).starts_with("2: "));
  for (const int error : {ENOSPC, EDQUOT}) {
    CHECK_THAT(told(error), Catch::StartsWith("6: ") && Catch::EndsWith(" bytes free"));
  }
  CHECK_THAT(error_of([] { fail_system("/is/not/there", "be created", ENOSPC); }),
             Catch::EndsWith("free space unknown"));
}

TEST_CASE("what a path names is seen through links", "[files]") {
  const TempFolder folder;
  put_file(folder / "file", "12345");
  fs::create_directory(folder / "folder");
  fs::create_symlink("file", folder / "to-file");
  fs::create_symlink("nowhere", folder / "dangling");
  fs::create_symlink("loop", folder / "loop");
  fs::create_hard_link(folder / "file", folder / "hard");
  CHECK(files::kind(folder / "file") == Kind::kFile);
  CHECK(files::kind(folder / "to-file") == Kind::kFile);
  CHECK(files::kind(folder / "folder") == Kind::kFolder);
  CHECK(files::kind("/dev/null") == Kind::kOther);
  for (const char* none : {"none", "dangling", "file/below"})
    CHECK(files::kind(folder / none) == Kind::kNothing);
  CHECK(error_of([&] { files::exists(folder / "loop"); }) ==
        message(2, folder / "loop", "could not be looked at: Too many levels of symbolic links"));
  CHECK(error_of([&] { files::exists(folder / std::string(300, 'n')); }).starts_with("2: "));
  CHECK(files::is_link(folder / "dangling"));
  CHECK_FALSE(files::is_link(folder / "hard"));
  for (const char* name : {"hard", "to-file", "folder/../file"})
    CHECK(files::same(folder / "file", folder / name));
  CHECK_FALSE(files::same(folder / "file", folder / "folder"));
  CHECK_FALSE(files::same(folder / "none", folder / "none"));
  CHECK(files::size(folder / "to-file") == 5);
  CHECK(error_of([&] { files::size(folder / "none"); }).starts_with("6: "));
  CHECK(names_in(folder.path()) == Names{"dangling", "file", "folder", "hard", "loop", "to-file"});
  CHECK(error_of([&] { files::list(folder / "none"); }) ==
        message(6, folder / "none", "could not be listed: No such file or directory"));
  CHECK(files::absolute(folder / "a/./../folder//") == folder / "folder");
  CHECK(files::real(folder / "to-file") == files::real(folder / "file"));
  CHECK(files::real(folder / "none/x/") == files::real(folder.path()) / "none/x");
}

TEST_CASE("folders are made with those above them, or not at all", "[files]") {
  const TempFolder folder;
  const std::vector<fs::path> made = files::make_folders(folder / "a/b/c/");
  CHECK(made == std::vector<fs::path>{folder / "a", folder / "a/b", folder / "a/b/c"});
  CHECK(files::make_folders(folder / "a/b").empty());
  CHECK(files::make_folder(folder / "one"));
  CHECK_FALSE(files::make_folder(folder / "one"));
  CHECK(error_of([&] { files::make_folder(folder / "two/deep"); }).starts_with("6: "));
  put_file(folder / "a/file", "");
  CHECK(error_of([&] { files::make_folders(folder / "a/file/x/y"); }) ==
        message(2, folder / "a/file", "could not be created: Not a directory"));
  CHECK(error_of([&] {
          files::make_folders(folder / "new" / std::string(300, 'n'));
        }).starts_with("2: "));
  CHECK_FALSE(fs::exists(folder / "new"));
}

TEST_CASE("a folder is removed with what lies in it, and links are not followed", "[files]") {
  const TempFolder folder;
  fs::create_directories(folder / "gone/deep");
  put_file(folder / "stays", "x");
  put_file(folder / "gone/deep/file", "x");
  fs::create_symlink(folder / "stays", folder / "gone/link");
  fs::create_symlink("loop", folder / "gone/loop");
  files::remove_tree(folder / "gone");
  files::remove_tree(folder / "gone");
  files::remove(folder / "none");
  CHECK(names_in(folder.path()) == Names{"stays"});
  fs::create_directories(folder / "full/x");
  CHECK(error_of([&] { files::remove(folder / "full"); }) ==
        message(6, folder / "full", "could not be removed: Directory not empty"));
}

TEST_CASE("a folder is replaced as a whole, through a link too", "[folders]") {
  const TempFolder folder;
  const auto fill = [](const char* text) {
    return [text](const fs::path& target) { put_file(target / text, text); };
  };
  CHECK(put_folder(folder / "a/b/new", fill("one")).empty());
  CHECK(replace_folder(folder / "a/b/new/", fill("two")).empty());
  CHECK(names_in(folder / "a/b/new") == Names{"two"});
  CHECK(names_in(folder / "a/b") == Names{"new"});
  fs::create_symlink("a/b/new", folder / "link");
  replace_folder(folder / "link", fill("three"));
  CHECK(files::is_link(folder / "link"));
  CHECK(names_in(folder / "a/b/new") == Names{"three"});
  // What fails leaves neither a temporary nor the folders above that were made for it.
  CHECK(error_of([&] {
          put_folder(folder / "x/y", [](const fs::path& target) {
            put_file(target / "half", "");
            fail(Exit::kNumeric, "no");
          });
        }) == "4: no");
  CHECK(names_in(folder.path()) == Names{"a", "link"});
  CHECK(error_of([&] { replace_folder(folder / "x/y", fill("one")); }).starts_with("6: "));
}

TEST_CASE("what writers left is removed, but not what one is writing", "[folders]") {
  const TempFolder folder;
  const std::string hex = "0123456789abcdef";
  const auto put_folder = [&](const std::string& name) {
    fs::create_directory(folder / name);
    put_file(folder / name / "weights", name);
  };
  put_folder("new");
  put_folder("new.tmp." + hex);
  put_folder("newer.tmp." + hex);
  put_folder("new.tmp.notes");
  put_file(folder / (".new.tmp.77." + hex), "");
  const TemporaryFolder living(folder / "new");
  AtomicFile file(folder / "text");
  remove_abandoned(folder / "new");
  remove_abandoned(folder / "text");
  CHECK(fs::is_directory(living.path()));
  CHECK(names_in(folder.path()).size() == 5);
  CHECK(fs::exists(folder / ("newer.tmp." + hex)));
  CHECK(fs::exists(folder / "new.tmp.notes"));
  file.write("x");
  file.commit();
  CHECK(get_file(folder / "text") == "x");

  // What was put aside is removed where its successor came, and else comes back.
  put_folder("new.old." + hex);
  remove_abandoned(folder / "new");
  CHECK(get_file(folder / "new/weights") == "new");
  CHECK_FALSE(fs::exists(folder / ("new.old." + hex)));
  fs::rename(folder / "new", folder / ("new.old." + hex));
  remove_leftovers(folder.path());
  CHECK(get_file(folder / "new/weights") == "new");
  CHECK(names_in(folder.path()) == Names{"new", "new.tmp.notes", "text"});
}

TEST_CASE("a folder that is moved, or loses its lock, is noticed", "[file]") {
  const TempFolder folder;
  const fs::path run = folder / "run";
  const auto fault = [&](auto&& change) {
    fs::create_directory(run);
    std::string error;
    {
      const FolderLock lock(run);
      lock.check();
      change();
      error = error_of([&] { lock.check(); });
    }
    fs::remove_all(run);
    fs::remove_all(folder / "away");
    return error;
  };
  CHECK(fault([&] { fs::rename(run, folder / "away"); }) ==
        message(6, run, "the folder was moved or removed while the run went on"));
  CHECK(fault([&] { fs::remove_all(run); }) ==
        message(6, run, "the folder was moved or removed while the run went on"));
  const std::string replaced =
      message(6, run, "the folder or its .lock was removed or replaced while the run went on");
  CHECK(fault([&] { fs::remove(run / ".lock"); }) == replaced);
  CHECK(fault([&] {
          fs::rename(run, folder / "away");
          fs::create_directory(run);
          put_file(run / ".lock", "");
        }) == replaced);
}

TEST_CASE("scratch files have no name", "[file]") {
  const TempFolder folder;
  ::setenv("TMPDIR", folder.path().c_str(), 1);
  const ScratchFile file;
  CHECK(folder.entries() == 0);
  write_all(file.fd(), std::as_bytes(std::span("abc", 3)), file.folder());
  char text[3];
  REQUIRE(::pread(file.fd(), text, 3, 0) == 3);
  CHECK(std::string_view(text, 3) == "abc");
  ::setenv("TMPDIR", (folder / "none").c_str(), 1);
  CHECK(error_of([] { files::temporary_folder(); }) ==
        "3: TMPDIR: expected a folder, got " + shown(folder / "none"));
  ::unsetenv("TMPDIR");
  CHECK(files::temporary_folder() == "/tmp");
}

TEST_CASE("a file that is there is replaced where that was asked for and it is ours", "[output]") {
  const TempFolder folder;
  put_file(folder / "ours", "MAGIC and more");
  put_file(folder / "data", "MAGIC too, and read");
  put_file(folder / "theirs", "a diary");
  put_file(folder / "empty", "");
  fs::create_directory(folder / "folder");
  fs::create_symlink("data", folder / "link");
  fs::create_symlink("none", folder / "dangling");
  fs::create_hard_link(folder / "data", folder / "hard");
  const auto check = [&](const fs::path& name, bool force) {
    return error_of([&] {
      check_output_file({"--out", folder / name, force, {"", folder / "data"}}, "token file",
                        [](const fs::path& path) { return get_file(path).starts_with("MAGIC"); });
    });
  };
  CHECK(check("new", false) == "no error");
  CHECK(check("ours", true) == "no error");
  CHECK(check("empty", true) == "no error");
  CHECK_THAT(check("ours", false), Catch::Contains("exists already (--force replaces it)"));
  CHECK_THAT(check("empty", false), Catch::Contains("exists already"));
  CHECK_THAT(check("theirs", true), Catch::Contains("--force replaces nothing else"));
  CHECK_THAT(check("folder", true), Catch::Contains("got a folder"));
  CHECK_THAT(check("dangling", true), Catch::Contains("got a dangling symbolic link"));
  CHECK_THAT(check("/dev/null", true), Catch::Contains("got what is no file"));
  for (const char* name : {"data", "link", "hard", "folder/../data"}) {
    for (const bool force : {false, true})
      CHECK_THAT(check(name, force), Catch::Contains("would replace") && Catch::Contains("read"));
  }
}

TEST_CASE("a folder is replaced where nothing of it is read or another's", "[output]") {
  const TempFolder folder;
  fs::create_directories(folder / "model/sub");
  put_file(folder / "model/weights", "");
  fs::create_directories(folder / "out");
  fs::create_directory_symlink("model", folder / "link");
  const auto check = [&](const fs::path& name, bool force, std::vector<fs::path> inputs = {}) {
    inputs.push_back(folder / "model");
    return error_of([&] {
      check_output_folder({"--out", folder / name, force, inputs}, "model",
                          [](const fs::path& path) { return path.filename() != "notes"; });
    });
  };
  CHECK(check("new", false) == "no error");
  CHECK(check("out", false) == "no error");
  CHECK(check("model/new", false) == "no error");
  CHECK(check("new/deep/er", false) == "no error");
  CHECK_THAT(check("model/weights/deep/er", true),
             Catch::EndsWith("expected a folder above it, got " + shown(folder / "model/weights")));
  put_file(folder / "out/weights", "");
  CHECK_THAT(check("out", false),
             Catch::StartsWith("2: --out ") && Catch::EndsWith("(--force overwrites its model)"));
  CHECK(check("out", true) == "no error");
  CHECK_THAT(check("out/weights", true), Catch::Contains("expected a folder, got a file"));
  for (const char* name : {"model", "model/", "link", "out/../model"})
    CHECK_THAT(check(name, true), Catch::Contains("expected another folder than"));
  CHECK_THAT(check("out", true, {folder / "out/weights"}), Catch::Contains("would replace"));
  CHECK_THAT(check("out", true, {folder / "out/deep/adapter"}), Catch::Contains("would replace"));
  put_file(folder / "out/notes", "");
  CHECK_THAT(check("out", true), Catch::Contains("holds notes, which is no part of a model"));
  // Parts: only they count.
  const auto parts = [&](const fs::path& input) {
    return error_of([&] {
      check_output_parts({"--out", folder / "out", true, {input}},
                         {folder / "out/adapter", folder / "out/config"});
    });
  };
  CHECK(parts(folder / "out/weights") == "no error");
  CHECK(parts(folder / "out/adapters") == "no error");
  CHECK_THAT(parts(folder / "out/adapter"), Catch::Contains("would replace"));
  CHECK_THAT(parts(folder / "link/../out/adapter/x"), Catch::Contains("would replace"));
  fs::create_hard_link(folder / "model/weights", folder / "out/config");
  CHECK_THAT(parts(folder / "link/weights"), Catch::Contains("would replace"));
}

}  // namespace tenon::test
