# SPDX-License-Identifier: Apache-2.0
# cmake -DROOT=... -DOUT=FILE.h -P: writes the commit of the sources into a header, before each build. The header changes
# only when the commit does, or what was edited since in folders that go into the program.
set(commit "unknown")
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${ROOT} rev-parse --short=12 HEAD RESULT_VARIABLE failed OUTPUT_VARIABLE head
                  ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT failed)
    set(commit ${head})
    execute_process(COMMAND ${GIT} -C ${ROOT} --no-optional-locks diff HEAD -- CMakeLists.txt cmake comm core kernels models
                            parallel text tools train
                    OUTPUT_VARIABLE edits ERROR_QUIET)
    if(NOT edits STREQUAL "")
      string(SHA1 hash "${edits}")
      string(SUBSTRING ${hash} 0 8 hash)
      string(APPEND commit "+${hash}")
    endif()
  endif()
endif()
set(text "// SPDX-License-Identifier: Apache-2.0
// The commit of the sources, and a hash of what was edited since; made before each build.
#pragma once

namespace tenon {
inline constexpr const char* kCommit = \"${commit}\";
}  // namespace tenon
")
set(before "")
if(EXISTS ${OUT})
  file(READ ${OUT} before)
endif()
if(NOT before STREQUAL text)
  file(WRITE ${OUT} "${text}")
endif()
