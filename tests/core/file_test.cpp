// SPDX-License-Identifier: Apache-2.0
#include "core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <set>
#include <thread>

#include "tests/core/temp_folder.h"

using namespace tenon;
using test::error_of;
using test::get_file;
using test::message;
using test::put_file;
using test::TempFolder;

namespace {

struct Child {
  int status = 0;      // as waitpid gives it
  std::string output;  // what it wrote to stderr
};

// Runs f in a child process; its result is the exit code. No assertions inside.
Child in_child(const std::function<int()>& f) {
  int ends[2];
  if (::pipe(ends) != 0) fail(Exit::kIo, "pipe");
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    std::signal(SIGBUS, SIG_DFL);  // not Catch's
    ::_exit(f());
  }
  ::close(ends[1]);
  Child child;
  char buffer[4096];
  for (ssize_t got; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    child.output.append(buffer, static_cast<size_t>(got));
  ::close(ends[0]);
  ::waitpid(pid, &child.status, 0);
  return child;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string some_text(size_t bytes) {
  std::string text(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>((i * 2654435761u) >> 13);
  return text;
}

}  // namespace

TEST_CASE("a mapped file shows its bytes", "[file]") {
  const TempFolder folder;
  const std::string text = some_text(100'000);
  const auto file = MappedFile::open(put_file(folder / "a", text));
  REQUIRE(file->size() == 100'000);
  CHECK(file->text() == text);
  CHECK(file->path() == folder / "a");
  file->advise_sequential();
  file->advise_will_need(5000, 90'000);
  file->advise_done(0, 1 << 30);
  CHECK(file->text() == text);
  std::filesystem::remove(folder / "a");
  CHECK(file->text() == text);  // a removed file stays readable

  const auto empty = MappedFile::open(put_file(folder / "empty", ""));
  CHECK(empty->size() == 0);
  CHECK(empty->data() != nullptr);
}

TEST_CASE("what cannot be mapped is named", "[file]") {
  const TempFolder folder;
  const auto fault = [&](const std::filesystem::path& path) {
    const std::string mapped = error_of([&] { MappedFile::open(path); });
    CHECK(error_of([&] { read_text(path, 100); }) ==
          mapped);  // one verdict whichever way it is read
    CHECK(error_of([&] { hash_file(path); }) == mapped);
    const std::string start = message(2, path, "");
    REQUIRE(mapped.starts_with(start));
    return mapped.substr(start.size());
  };
  CHECK(fault(folder / "none") == "expected a file, got nothing of that name");
  CHECK(fault(folder.path()) == "expected a regular file, got a folder");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  CHECK(fault(folder / "dangling") == "expected a file, got a dangling symbolic link");
  std::filesystem::create_symlink("loop", folder / "loop");
  CHECK(fault(folder / "loop") == "expected a readable file: Too many levels of symbolic links");
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK(fault(folder / "fifo") == "expected a regular file, got a FIFO");
  CHECK(fault("/dev/null") == "expected a regular file, got a device");
  CHECK(fault(put_file(folder / "file", "x") / "below") ==
        "expected a readable file: Not a directory");
  CHECK(fault(folder / std::string(300, 'n')) == "expected a readable file: File name too long");
  CHECK(fault("") == "expected a file, got nothing of that name");
  CHECK(fault(std::string("/dev/null\0x", 11)) == "expected a path without NUL");
  CHECK(error_of([&] {
          MappedFile::open(folder / "bad\n\x1b[2J");
        }).find("bad\\n\\x1b[2J: expected a file") != std::string::npos);

  const int server = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, (folder / "socket").c_str(), sizeof address.sun_path - 1);
  REQUIRE(::bind(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  CHECK(fault(folder / "socket") == "expected a regular file, got a socket or a device");
  ::close(server);
}

TEST_CASE("an unreadable file is named", "[file]") {
  const TempFolder folder;
  put_file(folder / "a", "x");
  std::filesystem::permissions(folder.path(), std::filesystem::perms::all);
  std::filesystem::permissions(folder / "a", std::filesystem::perms::none);
  // Permissions do not bind root: the child becomes another user.
  const Child child = in_child([&] {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) return 1;
    const std::string error = error_of([&] { MappedFile::open(folder / "a"); });
    write_all(STDERR_FILENO, bytes_of(error), "stderr");
    return 0;
  });
  CHECK(child.output == message(2, folder / "a", "expected a readable file: Permission denied"));
}

TEST_CASE("a file that shrinks while it is read ends in one line", "[file]") {
  const TempFolder folder;
  const auto path = put_file(folder / "weights", std::string(100'000, 'x'));
  const auto read_after_cut = [&](bool cut) {
    return in_child([&] {
      install_sigbus_reporter();
      std::vector<std::shared_ptr<const MappedFile>> others;
      for (int i = 0; i < 3; ++i) others.push_back(MappedFile::open(path));
      others[1].reset();
      const auto file = MappedFile::open(path);
      others.push_back(MappedFile::open(put_file(folder / "other", "y")));
      if (cut && ::truncate(path.c_str(), 50) != 0) return 1;
      return std::to_integer<int>(file->data()[70'000]) == 'x' ? 42 : 43;
    });
  };
  const Child whole = read_after_cut(false);
  CHECK((WIFEXITED(whole.status) && WEXITSTATUS(whole.status) == 42));
  CHECK(whole.output.empty());
  const Child cut = read_after_cut(true);
  CHECK((WIFEXITED(cut.status) && WEXITSTATUS(cut.status) == 6));
  CHECK(cut.output == "tenon: error: " + shown(path) +
                          ": the file shrank while it was read, or its disk failed: expected "
                          "100000 bytes, got none at "
                          "byte 70000\n");
  const Child other = in_child([] {
    install_sigbus_reporter();
    std::raise(SIGBUS);
    return 0;
  });
  CHECK((WIFSIGNALED(other.status) && WTERMSIG(other.status) == SIGBUS));
  CHECK(other.output.empty());
}

TEST_CASE("text is read up to its limit", "[file]") {
  const TempFolder folder;
  const std::string text = some_text(3'000'000);
  put_file(folder / "a", text);
  CHECK(read_text(folder / "a", 3'000'000) == text);
  CHECK(read_text(put_file(folder / "empty", ""), 0).empty());
  CHECK(error_of([&] { read_text(folder / "a", 2'999'999); }) ==
        message(2, folder / "a", "expected at most 2999999 bytes, got 3000000"));
  CHECK(read_text("/proc/self/status", 1 << 20).find("VmRSS") !=
        std::string::npos);                                            // its size says 0
  REQUIRE(::truncate((folder / "a").c_str(), int64_t{1} << 40) == 0);  // 1 TiB, mostly a hole
  CHECK(error_of([&] { read_text(folder / "a", 1000); }).find("got 1099511627776") !=
        std::string::npos);
}

TEST_CASE("hashes see the content", "[file]") {
  const TempFolder folder;
  const auto a = put_file(folder / "a", some_text(3'000'000));
  const auto b = put_file(folder / "b", some_text(3'000'000));
  CHECK(hash_file(a) == hash_file(b));
  CHECK(fingerprint_file(a) == fingerprint_file(b));
  CHECK(hash_file(put_file(folder / "empty", "")) ==
        0x2D06800538D394C2ull);  // XXH3-64 of nothing, as published
  for (const size_t at : {size_t{0}, size_t{1'500'000}, size_t{2'999'999}}) {
    std::string text = some_text(3'000'000);
    text[at] ^= 1;
    put_file(folder / "c", text);
    CHECK(hash_file(a) != hash_file(folder / "c"));
    CHECK(fingerprint_file(a) != fingerprint_file(folder / "c"));
  }
  put_file(folder / "c", some_text(2'999'999));
  CHECK(fingerprint_file(a) != fingerprint_file(folder / "c"));
}

TEST_CASE("the fingerprint of a large file sees its size, head, samples and tail", "[file]") {
  const TempFolder folder;
  const int64_t size = (int64_t{64} << 20) + 12'345;
  const auto path = put_file(folder / "large", "");
  REQUIRE(::truncate(path.c_str(), size) == 0);
  std::set<uint64_t> seen = {fingerprint_file(path)};
  CHECK(seen.count(fingerprint_file(path)) == 1);
  const int fd = ::open(path.c_str(), O_WRONLY);
  REQUIRE(fd >= 0);
  const int64_t last = size - (int64_t{64} << 10);
  for (const int64_t at : {int64_t{0}, last / 257, last / 257 * 100 + 300, size - 1}) {
    REQUIRE(::pwrite(fd, "x", 1, at) == 1);
    CHECK(seen.insert(fingerprint_file(path)).second);
  }
  ::close(fd);
  REQUIRE(::truncate(path.c_str(), size + 1) == 0);
  CHECK(seen.insert(fingerprint_file(path)).second);
}

TEST_CASE("an atomic file appears whole and leaves nothing else", "[file]") {
  const TempFolder folder;
  const std::string text = some_text(1'000'000);
  AtomicFile file(folder / "out", 1'000'000);
  CHECK(folder.entries() == 1);  // the temporary
  file.write(text.substr(0, 1));
  file.write(text.substr(1));
  CHECK_FALSE(std::filesystem::exists(folder / "out"));
  CHECK(file.size() == 1'000'000);
  const uint64_t hash = file.hash();
  file.commit();
  CHECK(get_file(folder / "out") == text);
  CHECK(hash == hash_file(folder / "out"));
  CHECK(folder.entries() == 1);
  CHECK(error_of([&] { file.write("more"); }).starts_with("1: [AtomicFile] "));
  CHECK(error_of([&] { file.commit(); }).starts_with("1: [AtomicFile] "));

  write_text_atomic(folder / "out", "new");
  CHECK(get_file(folder / "out") == "new");
  CHECK(folder.entries() == 1);
  write_text_atomic(folder / std::string(255, 'n'), "long");  // the temporary name must fit as well
  CHECK(get_file(folder / std::string(255, 'n')) == "long");
}

TEST_CASE("an atomic file that is not committed leaves the old one and no temporary", "[file]") {
  const TempFolder folder;
  put_file(folder / "out", "old");
  const auto broken = [&] {
    AtomicFile file(folder / "out");
    file.write("half");
    fail(Exit::kNumeric, "something else broke");
  };
  CHECK(error_of(broken) == "4: something else broke");
  CHECK(get_file(folder / "out") == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("where nothing can be written is found at once", "[file]") {
  const TempFolder folder;
  CHECK(error_of([&] { AtomicFile(folder / "no" / "out"); }) ==
        message(6, folder / "no" / "out", "could not be created: No such file or directory"));
  CHECK(error_of([&] {
          AtomicFile(folder.path());
        }).find("expected a file to write, got a folder") != std::string::npos);
  CHECK(error_of([&] { AtomicFile(folder.path() / ""); }).starts_with("2: "));
  const std::string full = error_of([&] { AtomicFile(folder / "out", int64_t{1} << 60); });
  CHECK(full.starts_with(
      message(6, folder / "out", "no space left: needed 1152921504606846976 bytes, ")));
  CHECK(full.ends_with(" free"));
  CHECK(folder.entries() == 0);
}

TEST_CASE("a write cut off by the system removes the temporary", "[file]") {
  const TempFolder folder;
  put_file(folder / "out", "old");
  const Child child = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);  // the first write is short, the second fails
    const std::string error = error_of([&] {
      AtomicFile file(folder / "out");
      file.write(std::string(150'000, 'x'));
      file.commit();
    });
    write_all(STDERR_FILENO, bytes_of(error), "stderr");
    return 0;
  });
  CHECK(child.output == message(6, folder / "out", "could not be written: File too large"));
  CHECK(get_file(folder / "out") == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("a full disk is named with what was needed", "[file]") {
  const int fd = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (fd < 0) {
    WARN("SKIPPED: no /dev/full");
    return;
  }
  const std::string error = error_of([&] { write_all(fd, bytes_of("hello"), "/tmp/out"); });
  ::close(fd);
  CHECK(error.starts_with("6: /tmp/out: no space left: needed 5 bytes, "));
}

TEST_CASE("short and interrupted writes lose nothing", "[file]") {
  const std::string text = some_text(5'000'000);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);  // holds 64 KiB: each write blocks, and each signal cuts it short
  static volatile std::sig_atomic_t signals = 0;
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) { signals = signals + 1; };  // no SA_RESTART
  ::sigaction(SIGALRM, &action, &before);
  std::string received;
  std::jthread reader([&] {
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    ::pthread_sigmask(SIG_BLOCK, &alarm, nullptr);
    std::string buffer(30'000, '\0');
    for (ssize_t got; (got = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
      received.append(buffer, 0, static_cast<size_t>(got));
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
  });
  const itimerval often{{0, 1000}, {0, 1000}}, never{};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  const std::string error = error_of([&] { write_all(ends[1], bytes_of(text), "pipe"); });
  ::setitimer(ITIMER_REAL, &never, nullptr);
  ::close(ends[1]);
  reader.join();
  ::close(ends[0]);
  ::sigaction(SIGALRM, &before, nullptr);
  CHECK(error == "no error");
  CHECK(signals > 0);
  CHECK(received == text);
}

TEST_CASE("more than 2 GiB go in one call", "[file]") {
  const size_t bytes = size_t{5} << 29;  // 2.5 GiB of untouched zero pages
  void* zeros =
      ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(zeros != MAP_FAILED);
  const int fd = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  CHECK(error_of([&] {
          write_all(fd, {static_cast<const std::byte*>(zeros), bytes}, "null");
        }) == "no error");
  ::close(fd);
  ::munmap(zeros, bytes);
}

TEST_CASE("folders are synced, siblings are new", "[file]") {
  const TempFolder folder;
  CHECK(error_of([&] { sync_directory(folder.path()); }) == "no error");
  CHECK(error_of([&] { sync_directory(folder / "none"); }).starts_with("6: "));
  const auto one = unique_sibling(folder / "step-5" / ""), two = unique_sibling(folder / "step-5");
  CHECK(one != two);
  CHECK(one.parent_path() == folder.path());
  CHECK(one.filename().string().starts_with("step-5.tmp."));
  CHECK_FALSE(std::filesystem::exists(one));
  CHECK(free_bytes(folder.path()) > 0);
  CHECK(free_bytes(folder / "none") == -1);
}

TEST_CASE("one run at a time holds a folder", "[file]") {
  const TempFolder folder;
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t holder = ::fork();
  if (holder == 0) {
    const FolderLock lock(folder.path());
    if (!lock.held() || ::write(ready[1], "x", 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  char byte;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  const std::string error = error_of([&] { FolderLock lock(folder.path()); });
  const std::string who = fmt::format("another tenon run (pid {} on ", holder);
  CHECK(error.starts_with(message(2, folder.path(), who)));
  CHECK(error.ends_with(") is writing here"));
  ::kill(holder, SIGKILL);
  ::waitpid(holder, nullptr, 0);
  {
    const FolderLock lock(folder.path());  // the system released it
    CHECK(lock.held());
    CHECK(get_file(folder / ".lock").starts_with("pid " + std::to_string(::getpid()) + " on "));
    CHECK(error_of([&] {
            FolderLock again(folder.path());
          }).starts_with("2: "));  // also within a process
  }
  CHECK(error_of([&] { FolderLock lock(folder.path()); }) == "no error");
  CHECK(error_of([&] { FolderLock lock(folder / "none"); }).starts_with("6: "));
  ::close(ready[0]);
  ::close(ready[1]);
}
