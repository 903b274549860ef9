// SPDX-License-Identifier: Apache-2.0
// Nothing: the program that this is linked to exists for its precompiled headers.
#include "tests/support/headers.h"
