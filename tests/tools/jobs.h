// SPDX-License-Identifier: Apache-2.0
// Jobs of several ranks under mpirun.
#pragma once

#include "tests/tools/lab.h"

namespace tenon::test {

// The lines of a job's stderr that Tenon wrote as errors: mpirun adds its own.
Words errors_of(const Result& result);

// Checks that a job is refused with one error, which has these parts, and leaves the lab as it was.
void check_job_refused(const Lab& lab, const Words& words, int code, const Words& parts);

// mpirun -n 2 of a command that differs on rank 1: there, `flag` has another value.
Words differing(const Lab& lab, const Words& words, const std::string& flag,
                const std::string& value);

// 400 steps with a checkpoint every 40, into the lab's folder `out`; --resume auto.
Words long_run(const Lab& lab, const std::string& out, const Words& more = {});

// The ranks of a job, when they have taken the first steps.
std::vector<pid_t> ranks_of(const Process& job);

}  // namespace tenon::test
