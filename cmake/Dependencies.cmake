# SPDX-License-Identifier: Apache-2.0
# Everything that comes from Debian's packages (tools/dev installs them).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(yaml-cpp 0.7 REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8>=10.42)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc>=2.6)  # Debian 12: 2.8.0, whose .pc file says 2.6.0
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc>=2.9)
find_path(XXHASH_INCLUDE xxhash.h REQUIRED)
if(TENON_MPI)
  find_package(MPI REQUIRED COMPONENTS CXX)
  target_compile_definitions(MPI::MPI_CXX INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
endif()
if(TENON_ONEDNN)
  find_package(dnnl CONFIG REQUIRED)
  find_package(OpenMP REQUIRED COMPONENTS CXX)  # the threads that oneDNN is told to take
endif()
if(TENON_TESTS)
  find_package(Catch2 2.13 REQUIRED)
  find_package(Eigen3 3.4 REQUIRED)
endif()
