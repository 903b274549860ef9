# SPDX-License-Identifier: Apache-2.0
# The library that reads Parquet, by the Arrow that the Python package pyarrow carries: headers and two shared libraries,
# built for any Linux. TENON_PYARROW_DIR is that package's folder; tools/dev installs it into build/.
# Sets TENON_PARQUET_FOUND.
set(TENON_PYARROW_DIR "" CACHE PATH "Folder of the Python package pyarrow (default: where tools/dev puts it)")
set(TENON_PARQUET_FOUND FALSE)
if(TENON_PARQUET STREQUAL "OFF")
  return()
endif()

set(tenon_pyarrow ${TENON_PYARROW_DIR})
if(NOT tenon_pyarrow)
  file(GLOB tenon_pyarrow ${CMAKE_SOURCE_DIR}/build/pyarrow/lib/python3*/site-packages/pyarrow)
endif()
foreach(name arrow parquet)
  file(GLOB tenon_lib${name} "${tenon_pyarrow}/lib${name}.so.*")
endforeach()
if(tenon_pyarrow AND tenon_libarrow AND tenon_libparquet AND EXISTS ${tenon_pyarrow}/include/parquet/arrow/reader.h)
  set(TENON_PARQUET_FOUND TRUE)
elseif(TENON_PARQUET STREQUAL "ON")
  message(FATAL_ERROR "TENON_PARQUET is ON, but there is no pyarrow in \"${tenon_pyarrow}\" (TENON_PYARROW_DIR; tools/dev "
                      "installs it)")
else()
  message(STATUS "Parquet: no pyarrow found (TENON_PYARROW_DIR): .parquet files will be refused")
  return()
endif()

foreach(name arrow parquet)
  add_library(tenon_lib${name} SHARED IMPORTED)
  set_target_properties(tenon_lib${name} PROPERTIES IMPORTED_LOCATION ${tenon_lib${name}}
                                                    INTERFACE_INCLUDE_DIRECTORIES ${tenon_pyarrow}/include)
endforeach()
