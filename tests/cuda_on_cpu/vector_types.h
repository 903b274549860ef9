// SPDX-License-Identifier: Apache-2.0
// CUDA's vector types and dim3, with the sizes and alignments of the CUDA C++ programming guide
// ("Built-in Vector Types").
#pragma once

#define TENON_VECTOR_1(name, T) \
  struct name##1 {              \
    T x;                        \
  };                            \
  constexpr name##1 make_##name##1(T x) { return {x}; }
#define TENON_VECTOR_2(name, T)           \
  struct alignas(2 * sizeof(T)) name##2 { \
    T x, y;                               \
  };                                      \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }
#define TENON_VECTOR_3(name, T) \
  struct name##3 {              \
    T x, y, z;                  \
  };                            \
  constexpr name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }
#define TENON_VECTOR_4(name, T)                                 \
  struct alignas(sizeof(T) == 8 ? 16 : 4 * sizeof(T)) name##4 { \
    T x, y, z, w;                                               \
  };                                                            \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
#define TENON_VECTORS(name, T) \
  TENON_VECTOR_1(name, T)      \
  TENON_VECTOR_2(name, T)      \
  TENON_VECTOR_3(name, T)      \
  TENON_VECTOR_4(name, T)

TENON_VECTORS(char, signed char)
TENON_VECTORS(uchar, unsigned char)
TENON_VECTORS(short, short)
TENON_VECTORS(ushort, unsigned short)
TENON_VECTORS(int, int)
TENON_VECTORS(uint, unsigned)
TENON_VECTORS(longlong, long long)
TENON_VECTORS(ulonglong, unsigned long long)
TENON_VECTORS(float, float)
TENON_VECTORS(double, double)

#undef TENON_VECTORS
#undef TENON_VECTOR_1
#undef TENON_VECTOR_2
#undef TENON_VECTOR_3
#undef TENON_VECTOR_4

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};
