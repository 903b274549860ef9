// SPDX-License-Identifier: Apache-2.0
// In the place of mpi.cpp where TENON_MPI is OFF.
#include "comm/mpi.h"
#include "core/error.h"

namespace tenon::mpi {

std::unique_ptr<Communicator> start() {
  fail(Exit::kEnvironment,
       "this build has no MPI: start it without mpirun or srun, or build it with -DTENON_MPI=ON");
}
bool is_started_within(double) { return false; }
void finish() {}
bool claim_report() { return true; }
void abort(int, double) {}

}  // namespace tenon::mpi
