// SPDX-License-Identifier: Apache-2.0
// Ranks over MPI. World uses this; everyone else sees Communicators. A build without MPI has
// mpi_absent.cpp instead.
//
// MPI makes progress only inside its own calls, so one thread of the process makes them all: it
// carries out the operations beside the computing threads, sleeps when there is nothing to do, and
// keeps the time limits.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace tenon::mpi {

// Starts MPI; the communicator of all ranks. Called once in a process.
// Throws Error(kEnvironment) when MPI lacks something, Error(kPeer) when it does not start within
// 300 s.
std::unique_ptr<Communicator> start();

// Whether MPI is started, or could be within `seconds`: for ranks that fail before start().
bool is_started_within(double seconds);

// Ends MPI, when all ranks have come to it; communicators fail from then on. Does nothing when MPI
// was not started.
void finish();

// Whether this rank is the one to report the error that ends the job: false when another rank has
// begun to. Ranks other than 0 wait for a moment first, so that an error which all ranks meet is
// reported by rank 0 alone.
bool claim_report();

// Ends all ranks of the job with `code`. Returns after `seconds` at the latest, when MPI has not
// done it.
void abort(int code, double seconds);

}  // namespace tenon::mpi
