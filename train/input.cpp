// SPDX-License-Identifier: Apache-2.0
#include "train/input.h"

#include <sstream>

#include "comm/agree.h"
#include "core/error.h"
#include "core/files.h"
#include "train/console.h"
#include "train/data.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

void check_rows(const Job& job, int ranks) {
  const int64_t rows = job.train->rows(), batch = job.options.batch;
  if (rows >= ranks && batch >= ranks) return;
  fail_input("more ranks ({}) than sequences: {} of data, a --batch of {}", ranks, rows, batch);
}

// The day that the run which is gone on with was told; "" where there is none.
std::string earlier_date(const TrainOptions& o) {
  if (o.resume.empty()) return "";
  const fs::path run = o.resume == "auto" ? fs::path(o.out) : fs::path(o.resume) / "../..";
  TrainOptions earlier;
  if (files::exists(run / "config.yaml")) read_config_file(run / "config.yaml", earlier);
  return earlier.date;
}

}  // namespace

void all_or_none(Communicator& world, std::optional<RunFolder>& folder,
                 const std::function<void()>& work) {
  std::optional<Error> error;
  try {
    work();
  } catch (const Error& e) {
    error = e;
  }
  constexpr int64_t kCodes = 256, kNone = int64_t{1} << 40;
  int64_t first[1] = {error ? world.rank() * kCodes + static_cast<int64_t>(error->code()) : kNone};
  world.all_reduce(std::span<int64_t>(first), Reduce::kMin);
  if (first[0] == kNone) return;
  if (folder) folder->discard();
  world.barrier();  // an error ends the job: the folder must be gone before
  if (first[0] / kCodes == world.rank()) throw *error;
  throw Error(static_cast<Exit>(first[0] % kCodes), "");
}

namespace {

// The options without "auto", on all ranks what rank 0 finds.
void settle_all(TrainOptions& o, Communicator& world, Device device, const Place& place,
                Input& in) {
  std::string text;  // "map\nnone\n4"
  all_or_none(world, in.folder, [&] {
    if (world.rank() != 0) return;
    Settled settled{.options = without_auto(o)};
    if (device == Device::kCPU) {
      build_model(o.model);                         // what is wrong with its config comes first
      in.job.tokenizer = Tokenizer::load(o.model);  // a part of the program that is planned for
      settled = settle(o, {world.size(), place.local_ranks}, place.memory);
      in.plan = settled.plan;
    }
    TrainOptions& found = settled.options;
    if (o.weights == "auto" && found.weights == "map" && WeightFiles::open(o.model).on_network())
      found.weights = "read";
    text =
        fmt::format("{}\n{}\n{}", found.weights, found.checkpoint_activations, found.micro_batch);
    if (settled.fits) return;
    std::fputs(plan_text(settled.plan, place.memory).c_str(), stderr);
    std::fputs(changes_text(settled).c_str(), stderr);
    fail(Exit::kMemory, "the run needs {} a rank, and has {} (--memory)",
         bytes_text(settled.plan.need()), bytes_text(place.memory));
  });
  std::istringstream lines(world.all_gather_text(text).front());
  std::getline(lines, o.weights);
  std::getline(lines, o.checkpoint_activations);
  lines >> o.micro_batch;
}

}  // namespace

void read_all(const TrainOptions& options, Communicator& world, Device device, const Place& place,
              Input& in) {
  // One rank may read for long while the others wait: then the launcher alone ends the wait.
  const double limit = world.timeout();
  world.set_timeout(24 * 3600.0);
  const bool rank0 = world.rank() == 0;
  TrainOptions dated = options;
  std::string earlier;
  all_or_none(world, in.folder, [&] {
    // Its faults end all ranks here.
    const auto source = template_source(options, options.model, options.adapter);
    const bool asks = source && source->asks_date() && options.date.empty();
    if (rank0 && asks) earlier = earlier_date(options);
  });
  settle_date(dated, dated.model, dated.adapter, world, earlier);
  settle_all(dated, world, device, place, in);
  if (options.memory != "auto")
    in.limit.emplace(std::max<int64_t>(1, place.memory - resident_anonymous_bytes()));
  // The pages that one rank of a node reads are all its ranks'.
  all_or_none(world, in.folder, [&] {
    if (dated.weights == "read" && place.local_rank == 0)
      WeightFiles::open(dated.model).read_ahead();
  });
  all_or_none(world, in.folder,
              [&] { in.job = read_model(dated, device, std::move(in.job.tokenizer)); });
  all_or_none(world, in.folder, [&] {
    in.folder.emplace(in.job.options, rank0);
    in.cache.emplace(*in.folder, !options.resume.empty());
    if (rank0) read_data(*in.cache, in.job);
  });
  all_or_none(world, in.folder, [&] {
    if (!rank0) read_data(*in.cache, in.job);
    check_rows(in.job, world.size());
    in.contents = contents_of(in.job.options, in.job.digests);
  });
  world.set_timeout(limit);
  check_agreement(world, in.contents.all());
}

}  // namespace tenon
