# SPDX-License-Identifier: Apache-2.0
# cmake -DPROGRAM=tenon -DPRECISION=fp32|fp16|bf16 -DROOT=repository -P: `tenon verify` on the machine's card, on the
# repository's cases. Exit code 3 says that there is no card, or that it has no such precision.
file(GLOB cases ${ROOT}/tests/reference/cases/gpt2-*)
execute_process(COMMAND ${PROGRAM} verify ${cases} --device cuda --precision ${PRECISION}
                RESULT_VARIABLE code OUTPUT_VARIABLE report ERROR_VARIABLE errors)
if(code EQUAL 3)
  message("SKIPPED: ${errors}")
  return()
endif()
message("${report}${errors}")
if(NOT code EQUAL 0)
  message(FATAL_ERROR "exit code: expected 0, got ${code}")
endif()
