// SPDX-License-Identifier: Apache-2.0
#include "comm/world.h"

#include <hwloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "comm/mpi.h"

namespace tenon {
namespace {

bool is_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

// The number at the front of the variable (OMP_NUM_THREADS may be a list), or 0 where it is not
// set.
int number_in(const char* name) {
  if (!is_set(name)) return 0;
  const std::string_view value = std::getenv(name);
  int number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  const bool whole =
      end == value.data() + value.size() || *end == ',' || *end == '(';  // SLURM: "2(x3)"
  if (error != std::errc() || !whole || number < 1) {
    fail(Exit::kEnvironment, "{}: expected a positive number, got \"{}\"", name, printable(value));
  }
  return number;
}

bool started_by_launcher() {
  if (is_set("OMPI_COMM_WORLD_RANK") || is_set("PMIX_RANK")) return true;
  if (number_in("SLURM_STEP_NUM_TASKS") > 1) {
    if (World::launcher_rank() > 0) throw Error(Exit::kEnvironment, "");  // task 0 says it
    fail(Exit::kEnvironment, "started by srun without PMIx: use `srun --mpi=pmix tenon ...`");
  }
  return is_set("PMI_RANK") && !is_set("SLURM_STEP_NUM_TASKS");
}

// How many ranks the launcher's environment speaks of; 0 where it does not.
int launched_ranks() {
  int ranks = number_in("OMPI_COMM_WORLD_SIZE");
  if (ranks == 0) ranks = number_in("PMI_SIZE");
  if (ranks == 0 && is_set("PMIX_RANK")) ranks = number_in("SLURM_STEP_NUM_TASKS");
  return ranks;
}

// Ranks that each believe to be alone would all write the same files.
void check_size(int size) {
  const int expected = launched_ranks();
  if (expected == 0 || expected == size) return;
  fail(Exit::kEnvironment,
       "the launcher started {} ranks, but MPI sees {}: it belongs to another MPI than this build; "
       "use the mpirun of "
       "Open MPI, or `srun --mpi=pmix`",
       expected, size);
}

void die_with_launcher() {
  const pid_t launcher = getppid();
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != launcher) _exit(static_cast<int>(Exit::kPeer));  // it died before the call
}

// The cores that a process may run on, one number for each: two hardware threads of a core share
// its vector units, so that a second thread there gains a matmul nothing.
std::vector<int> cores_of(pid_t process) {
  std::vector<int> cores;
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return cores;
  hwloc_bitmap_t set = hwloc_bitmap_alloc();
  if (hwloc_topology_load(topology) == 0 &&
      hwloc_get_proc_cpubind(topology, process, set, 0) == 0) {
    hwloc_bitmap_singlify_per_core(topology, set, 0);
    for (int core = hwloc_bitmap_first(set); core >= 0; core = hwloc_bitmap_next(set, core))
      cores.push_back(core);
  }
  hwloc_bitmap_free(set);
  hwloc_topology_destroy(topology);
  return cores;
}

// Where a rank sits, as it tells the others.
struct Seat {
  std::string host, boot;  // ranks with the same of both are on one machine
  int launcher_cores = 0;  // that the launcher may use there; 0 where it cannot be known
  int wanted_threads = 0;  // OMP_NUM_THREADS
  std::set<int> cores;

  bool is_beside(const Seat& other) const { return host == other.host && boot == other.boot; }
};

Seat own_seat(const std::string& host) {
  Seat seat;
  seat.host = host;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> seat.boot;
  // Under mpirun the parent is mpirun or its daemon, which is not bound to cores itself.
  if (is_set("OMPI_COMM_WORLD_RANK"))
    seat.launcher_cores = static_cast<int>(cores_of(getppid()).size());
  seat.wanted_threads = number_in("OMP_NUM_THREADS");
  const std::vector<int> cores = cores_of(0);
  seat.cores = {cores.begin(), cores.end()};
  return seat;
}

std::string text(const Seat& seat) {
  std::string line =
      fmt::format("{} -{} {} {}", seat.host, seat.boot, seat.launcher_cores, seat.wanted_threads);
  for (const int core : seat.cores) line += fmt::format(" {}", core);
  return line;
}

Seat seat_of(const std::string& line) {
  std::istringstream words(line);
  Seat seat;
  words >> seat.host >> seat.boot >> seat.launcher_cores >> seat.wanted_threads;
  for (int core; words >> core;) seat.cores.insert(core);
  return seat;
}

// The first machine where cores are shared by several threads or lie idle.
std::string warn(const std::vector<Seat>& seats) {
  for (const Seat& seat : seats) {
    std::set<int> cores;
    int ranks = 0, wanted = 0;
    for (const Seat& other : seats) {
      if (!other.is_beside(seat)) continue;
      cores.insert(other.cores.begin(), other.cores.end());
      ++ranks;
      wanted += std::max(1, other.wanted_threads);
    }
    const int count = static_cast<int>(cores.size());
    if (count > 0 && wanted > count) {
      return fmt::format("{}: {} ranks with {} threads share {} cores", seat.host, ranks, wanted,
                         count);
    }
    if (seat.wanted_threads == 0 && count < seat.launcher_cores) {
      return fmt::format(
          "{}: mpirun bound {} rank{} to {} of {} cores; use --bind-to none, or --map-by "
          "ppr:{}:node:pe={}",
          seat.host, ranks, ranks == 1 ? "" : "s", count, seat.launcher_cores, ranks,
          seat.launcher_cores / ranks);
    }
  }
  return "";
}

std::atomic<int> abort_status{1};

}  // namespace

World World::start() {
  World world;
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  world.hostname_ = printable(name.data());
  if (started_by_launcher()) {
    die_with_launcher();
    world.communicator_ = mpi::start();
    check_size(world.size());
  } else {
    world.communicator_ = make_self("rank 0/1 " + world.hostname_);
  }
  world.take_seat();
  return world;
}

void World::take_seat() {
  std::vector<Seat> seats;
  for (const std::string& line : communicator_->all_gather_text(text(own_seat(hostname_)))) {
    seats.push_back(seat_of(line));
  }
  const Seat& mine = seats[static_cast<size_t>(rank())];
  int sharers = 0;
  local_size_ = 0;
  for (int r = 0; r < size(); ++r) {
    const Seat& other = seats[static_cast<size_t>(r)];
    if (!other.is_beside(mine)) continue;
    if (r == rank()) local_rank_ = local_size_;
    ++local_size_;
    if (other.cores == mine.cores) ++sharers;
  }
  threads_ = std::max(1, static_cast<int>(mine.cores.size()) / sharers);
  if (const int task_cores = number_in("SLURM_CPUS_PER_TASK"))
    threads_ = std::min(threads_, task_cores);
  if (mine.wanted_threads > 0) threads_ = mine.wanted_threads;
  if (rank() == 0) warning_ = warn(seats);
}

World::~World() {
  if (communicator_ == nullptr || finished_ || std::uncaught_exceptions() > 0) return;
  try {
    finish();
  } catch (const Error&) {  // a peer was lost when all work was done: its own error says why
  }
}

void World::finish() {
  if (finished_) return;
  communicator_->barrier();
  finished_ = true;
  mpi::finish();
}

void World::abort(Exit code, std::string_view line) {
  // Whatever is stuck below, be it MPI or a terminal that does not read.
  abort_status = static_cast<int>(code);
  signal(SIGALRM, [](int) { _exit(abort_status); });
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
  alarm(10);

  std::fflush(stdout);
  if (!line.empty() && mpi::claim_report()) {
    std::fputs((std::string(line) + "\n").c_str(), stderr);
    std::fflush(stderr);
  } else {
    std::this_thread::sleep_for(std::chrono::seconds(4));
  }
  mpi::abort(static_cast<int>(code), 3.0);
  _exit(static_cast<int>(code));
}

void World::report(Exit code, std::string_view line) {
  constexpr double kOthersCome = 10;
  bool together = false;
  try {
    together = launched_ranks() > 1 && mpi::is_started_within(kOthersCome);
  } catch (const Error&) {  // an environment that makes no sense
  }
  if (together) abort(code, line);
  if (!line.empty()) std::fputs((std::string(line) + "\n").c_str(), stderr);
}

int World::launcher_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (is_set(name)) return std::max(0, std::atoi(std::getenv(name)));
  }
  return 0;
}

std::optional<double> launcher_grace() {
  std::string parent;
  std::ifstream(fmt::format("/proc/{}/comm", getppid())) >> parent;
  constexpr std::array<std::string_view, 4> kOpenMpi = {"mpirun", "orterun", "mpiexec", "orted"};
  if (std::find(kOpenMpi.begin(), kOpenMpi.end(), parent) == kOpenMpi.end()) return std::nullopt;
  const char* given = std::getenv("OMPI_MCA_odls_base_sigkill_timeout");
  const double seconds = given == nullptr ? 0 : std::atof(given);
  return seconds > 0 ? seconds : 1;
}

}  // namespace tenon
