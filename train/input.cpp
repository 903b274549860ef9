// SPDX-License-Identifier: Apache-2.0
#include "train/input.h"

#include "comm/agree.h"
#include "core/error.h"
#include "core/files.h"
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

void read_all(const TrainOptions& options, Communicator& world, Device device, Input& in) {
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
  all_or_none(world, in.folder, [&] { in.job = read_model(dated, device); });
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
