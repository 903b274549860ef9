# SPDX-License-Identifier: Apache-2.0
# The other half of the ISA rule: an object compiled with ISA flags defines no symbol that the linker may merge with
# another's (an inline function, a template) unless it lies in the ISA's own namespace.
#   cmake -DNM=<nm> -DISA=<name> -DOBJECTS=<file,file...> -P CheckIsaObjects.cmake
cmake_minimum_required(VERSION 3.25)
string(REPLACE "," ";" objects "${OBJECTS}")
execute_process(COMMAND ${NM} -C --defined-only ${objects} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]* [VWu] [^\n]*" merged "${symbols}")
list(FILTER merged EXCLUDE REGEX "tenon::cpu::${ISA}::|DW\\.ref\\.")
if(merged)
  list(JOIN merged "\n" merged)
  message(NOTICE "${merged}")
  message(FATAL_ERROR "inline functions outside tenon::cpu::${ISA} are compiled for ${ISA}")
endif()
