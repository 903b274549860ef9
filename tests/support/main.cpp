// SPDX-License-Identifier: Apache-2.0
// The test runner's main, compiled once: Catch2 v2 is slow to compile where it holds main.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
