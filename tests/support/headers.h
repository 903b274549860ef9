// SPDX-License-Identifier: Apache-2.0
// What most tests include, precompiled where TENON_QUICK_BUILD is set. Tests include what they use:
// they compile without this too.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
