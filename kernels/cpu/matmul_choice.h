// SPDX-License-Identifier: Apache-2.0
// Which tile multiplies a class of products fastest, found out while they are multiplied: the first
// calls of a class use each tile in turn and are timed, the others use the fastest. All tiles give
// the same bits, so nothing but time depends on it.
//
// Compiled without ISA flags. Safe to call from several threads.
#pragma once

#include <cstdint>

namespace tenon::cpu {

// Products whose sizes lie between the same powers of two are of one class, for one instruction set
// (`table` is any address that is its own) and one kind of unit.
struct ProductClass {
  const void* table;
  int64_t unit_steps;
  int64_t m, n, k;
  bool a_transposed, b_transposed;
};

// One product's turn: choose() says which of `tiles` tiles it takes, done() that it has ended.
class TileChoice {
 public:
  TileChoice(const ProductClass& product, int tiles);
  int tile() const { return tile_; }
  void done();

 private:
  const ProductClass product_;
  int tile_ = 0;
  double begin_ = -1;  // seconds; negative: not timed
};

}  // namespace tenon::cpu
