// SPDX-License-Identifier: Apache-2.0
// Where time goes: what each kernel of each op took, forward and backward. While a Profiling scope
// lives, the thread's launches on a device pass through a table that notes them, as the trace's does.
//
//   Profile profile;
//   const Profiling scope(profile, device);
//   profile.enter("forward");
//   ...
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "core/device.h"
#include "core/launch.h"

namespace tenon {

class Profile {
 public:
  // All launches of one kernel with one shape for one op in one phase.
  struct Row {
    std::string phase, op, kernel, shape;
    int64_t calls = 0;
    double seconds = 0;
    LaunchWork work;
  };

  // What follows belongs to this phase: "forward", "backward", "optimizer".
  void enter(const char* phase);
  // The tape says which op launches belong to: those since the last call to the op that has now
  // been recorded, or those that follow to the op whose gradient is about to be computed.
  void op_recorded(const char* op);
  void op_begins(const char* op);

  void add(const char* kernel, std::string shape, double seconds, const LaunchWork& work);

  // In the order in which they were first seen. Launches that no op claimed have the op "".
  std::vector<Row> rows();
  double seconds() const { return seconds_; }  // of all kernels

 private:
  void file(const std::string& op, const Row& launch);
  void claim(const std::string& op);

  std::string phase_, op_;      // op_ is "" where it is not known before it is recorded
  std::vector<Row> unclaimed_;  // launches of the op that is under way
  std::vector<Row> rows_;
  std::map<std::tuple<std::string, std::string, std::string, std::string>, size_t> place_;
  double seconds_ = 0;
};

// The profile of the calling thread, or null.
Profile* current_profile();

// Makes `profile` the thread's profile and puts a noting table before the device's while the scope
// lives. One scope a thread and a device a process at a time.
class Profiling {
 public:
  Profiling(Profile& profile, Device device);
  ~Profiling();
  Profiling(const Profiling&) = delete;
  Profiling& operator=(const Profiling&) = delete;

 private:
  Device device_;
};

}  // namespace tenon
