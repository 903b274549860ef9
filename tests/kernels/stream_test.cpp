// SPDX-License-Identifier: Apache-2.0
// The CPU's kernels store large arrays past the caches where these are aligned to 64 bytes
// (kernels/cpu/vec.h), in code of its own that the small arrays of the other tests do not reach:
// it must give the same bytes as an array that is not aligned.
#include <cstring>
#include <functional>
#include <memory>

#include "tests/kernels/kernel_test.h"

namespace tenon::test {
namespace {

constexpr int64_t kBytes = int64_t{16} << 20;  // of each array: as many as make a kernel stream

// kBytes of memory, or as many times more, `shift` bytes after a multiple of 64.
class Memory {
 public:
  explicit Memory(int64_t shift, int64_t times = 1)
      : bytes_(times * kBytes),
        block_(std::aligned_alloc(64, static_cast<size_t>(bytes_ + 64)), std::free),
        data_(static_cast<unsigned char*>(block_.get()) + shift) {
    std::memset(data_, 0xFB, static_cast<size_t>(bytes_));
  }
  unsigned char* data() { return data_; }
  // Numbers of `dtype` in [-1, 1).
  void fill(DType dtype, uint32_t seed) {
    const std::vector<float> period = random_values(4093, seed);
    for (int64_t i = 0; i < bytes_ / size_of(dtype); ++i)
      store_element(dtype, data_, i, static_cast<double>(period[static_cast<size_t>(i % 4093)]));
  }
  bool same_bytes(const Memory& other) const {
    return std::memcmp(data_, other.data_, static_cast<size_t>(bytes_)) == 0;
  }

 private:
  int64_t bytes_;
  std::unique_ptr<void, decltype(&std::free)> block_;
  unsigned char* data_;
};

struct Operands {
  const KernelTable* table;
  DType dtype;
  int64_t rows, channels;
  const unsigned char *a, *b, *c;  // (rows, channels)
  const float *row, *other_row;    // (channels)
  float *sums, *rows_out;          // (2 channels), (2 rows)
  const int32_t* index;            // (rows)
  int64_t count() const { return rows * channels; }
};

// A kernel that writes one array, or two, of rows * channels elements.
struct Kernel {
  const char* name;
  std::function<void(const Operands& o, unsigned char* y, unsigned char* z)> run;
};

const Kernel kKernels[] = {
    {"add",
     [](const Operands& o, auto* y, auto*) {
       o.table->add({o.a, o.b, y, o.count(), o.dtype});
     }},
    {"scale",
     [](const Operands& o, auto* y, auto*) {
       o.table->scale({o.a, y, o.count(), 3, o.dtype});
     }},
    {"fill",
     [](const Operands& o, auto* y, auto*) {
       o.table->fill({y, o.count(), 3, o.dtype});
     }},
    {"cast",
     [](const Operands& o, auto* y, auto*) {
       const DType from = o.dtype == DType::kF32 ? DType::kBF16 : DType::kF16;
       o.table->cast({o.a, y, o.count(), from, o.dtype});
     }},
    {"activation",
     [](const Operands& o, auto* y, auto* z) {
       o.table->activation({o.a, y, o.count(), Activation::kSilu, o.dtype});
       o.table->activation_grad({o.a, o.b, z, o.count(), Activation::kSilu, o.dtype});
     }},
    {"dropout",
     [](const Operands& o, auto* y, auto* z) {
       const RandomStream random = {.seed = 3, .purpose = 2, .step = 1};
       o.table->dropout({o.a, nullptr, y, o.count(), 0.3f, random, 8, o.dtype});
       o.table->dropout({o.a, o.b, z, o.count(), 0.3f, random, 7, o.dtype});
     }},
    {"gated_activation",
     [](const Operands& o, auto* y, auto*) {
       o.table->gated_activation(
           {o.a, o.b, y, o.rows, o.channels, o.channels, Activation::kSilu, o.dtype});
     }},
    {"gated_activation_grad",
     [](const Operands& o, auto* y, auto* z) {
       o.table->gated_activation_grad({o.a, o.b, o.c, y, z, o.rows, o.channels, o.channels,
                                       o.channels, Activation::kSilu, o.dtype});
     }},
    {"layer_norm",
     [](const Operands& o, auto* y, auto* z) {
       o.table->norm({o.a, o.b, o.row, o.other_row, z, y, o.rows_out, o.rows_out + o.rows, o.rows,
                      o.channels, 1e-5f, o.dtype});
     }},
    {"layer_norm_grad",
     [](const Operands& o, auto* y, auto*) {
       o.table->norm_grad({o.a, o.row, o.rows_out, o.rows_out + o.rows, o.b, o.c, y, o.sums,
                           o.sums + o.channels, o.rows, o.channels, o.dtype});
     }},
    {"rms_norm",
     [](const Operands& o, auto* y, auto* z) {
       o.table->norm({.x = o.a,
                      .weight = o.row,
                      .y = y,
                      .rstd = o.rows_out,
                      .rows = o.rows,
                      .channels = o.channels,
                      .eps = 1e-5f,
                      .dtype = o.dtype,
                      .centred = false});
       o.table->norm_grad({.s = o.a,
                           .weight = o.row,
                           .rstd = o.rows_out,
                           .dy = o.b,
                           .ds = z,
                           .rows = o.rows,
                           .channels = o.channels,
                           .dtype = o.dtype,
                           .centred = false});
     }},
    {"gather_rows",
     [](const Operands& o, auto* y, auto*) {
       o.table->gather_rows({o.a, o.index, y, o.rows, o.channels, o.dtype});
     }},
    {"embedding",
     [](const Operands& o, auto* y, auto* z) {
       o.table->embedding(
           {o.index, nullptr, o.a, nullptr, y, o.rows, o.channels, o.dtype, o.dtype});
       o.table->embedding({o.index, o.index, o.a, o.b, z, o.rows, o.channels, o.dtype, o.dtype});
     }},
};

}  // namespace

TEST_CASE("large arrays get the same bytes, aligned or not", "[kernels]") {
  const DType dtype = GENERATE(DType::kF32, DType::kBF16, DType::kF16);
  const int64_t channels = 2048, rows = kBytes / channels / size_of(dtype);
  Memory a(0), b(0), c(0);
  a.fill(dtype, 1);
  b.fill(dtype, 2);
  c.fill(dtype, 3);
  const std::vector<float> row = random_values(channels, 4), other_row = random_values(channels, 5);
  std::vector<int32_t> index;
  for (int64_t r = 0; r < rows; ++r) index.push_back(static_cast<int32_t>(r * 7 % rows));
  for (const Target& target : targets()) {
    for (const Kernel& kernel : kKernels) {
      CAPTURE(target.name, name_of(dtype), kernel.name);
      std::vector<float> sums[2], rows_out[2];
      Memory y(0), z(0), shifted_y(size_of(dtype)), shifted_z(size_of(dtype));
      for (int which : {0, 1}) {
        sums[which].assign(static_cast<size_t>(2 * channels), 0.5f);
        rows_out[which].assign(static_cast<size_t>(2 * rows), 0.25f);
        const Operands operands = {target.enter(),
                                   dtype,
                                   rows,
                                   channels,
                                   a.data(),
                                   b.data(),
                                   c.data(),
                                   row.data(),
                                   other_row.data(),
                                   sums[which].data(),
                                   rows_out[which].data(),
                                   index.data()};
        kernel.run(operands, (which == 0 ? y : shifted_y).data(),
                   (which == 0 ? z : shifted_z).data());
      }
      const bool same = y.same_bytes(shifted_y) && z.same_bytes(shifted_z);
      CHECK(same);
      CHECK((sums[0] == sums[1] && rows_out[0] == rows_out[1]));
    }
  }
}

}  // namespace tenon::test
