// SPDX-License-Identifier: Apache-2.0
// A Tensor is a shape, a dtype and a place in a shared Storage on some device: always contiguous and
// row-major. Copying a Tensor shares its bytes; clone() copies them. A tensor that takes part in
// differentiation also has a gradient slot, made by the tape for what an op returns and by
// `require_grad` for parameters.
#pragma once

#include <array>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>

#include "core/dtype.h"
#include "core/error.h"
#include "core/storage.h"

namespace tenon {

// Up to four extents, outermost first.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const;  // negative counts from the last
  int64_t numel() const;
  bool operator==(const Shape& other) const = default;
  std::string text() const;  // "[2, 48, 768]"

 private:
  std::array<int64_t, 4> dims_{};
  int rank_ = 0;
};

struct GradSlot;

class Tensor {
 public:
  Tensor() = default;  // undefined: "absent"

  static Tensor empty(Shape shape, DType dtype, MemoryKind kind = MemoryKind::kActivations);
  static Tensor empty(Shape shape, DType dtype, Device device,
                      MemoryKind kind = MemoryKind::kActivations);
  static Tensor zeros(Shape shape, DType dtype, MemoryKind kind = MemoryKind::kActivations);
  static Tensor zeros(Shape shape, DType dtype, Device device,
                      MemoryKind kind = MemoryKind::kActivations);
  static Tensor empty_like(const Tensor& other) {
    return empty(other.shape_, other.dtype_, other.device());
  }
  // Looks at bytes that `owner` keeps alive; never written.
  static Tensor borrow(const void* data, Shape shape, DType dtype,
                       std::shared_ptr<const void> owner);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t numel() const { return shape_.numel(); }
  int64_t bytes() const { return numel() * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ == nullptr ? Device::kCPU : storage_->device(); }

  // The first byte; null when undefined, so that an absent tensor is an absent kernel argument.
  void* raw() const { return storage_ == nullptr ? nullptr : storage_->data() + offset_; }
  // The elements as T. Requires: sizeof(T) is the dtype's size.
  template <class T>
  T* data() const {
    TENON_CHECK(!defined() || sizeof(T) == size_of(dtype_),
                "[tensor] {} elements read as {} bytes each", name_of(dtype_), sizeof(T));
    return static_cast<T*>(raw());
  }

  Tensor view(Shape shape) const;                 // the same elements and gradient slot
  Tensor rows(int64_t begin, int64_t end) const;  // part of the first axis; not differentiable
  Tensor clone(MemoryKind kind = MemoryKind::kActivations) const;  // own bytes, no gradient slot
  Tensor detach() const;  // the same bytes, no gradient slot
  // A copy on `device`, or the same bytes when they are there already; no gradient slot. Copying to
  // the host waits for the work that makes the bytes.
  Tensor to(Device device, MemoryKind kind = MemoryKind::kActivations) const;
  // Copies the bytes of `other`, which may be on another device; nothing where they are the same
  // bytes. Requires: same dtype and number of elements.
  void assign(const Tensor& other);
  void zero();  // every byte 0

  bool sole_owner() const { return storage_.use_count() == 1 && !storage_->borrowed(); }

  const std::shared_ptr<GradSlot>& slot() const { return slot_; }
  void set_slot(std::shared_ptr<GradSlot> slot) { slot_ = std::move(slot); }

 private:
  std::shared_ptr<Storage> storage_;
  std::shared_ptr<GradSlot> slot_;
  Shape shape_;
  int64_t offset_ = 0;  // bytes
  DType dtype_ = DType::kF32;
};

// Where a tensor's gradient gathers. A parameter's gradient is fp32 and stays until it is zeroed;
// an activation's has the activation's dtype and goes when the op that made the activation has used
// it.
struct GradSlot {
  Tensor grad;
  bool parameter = false;
  Shape shape;  // of a parameter's gradient
  Device device = Device::kCPU;
  int uses = 0;  // recorded uses whose backward has not run yet
  std::function<void()>
      on_ready;  // a parameter's gradient of this pass is final (uses fell to zero)

  // A parameter's gradient: zeros where it has been given back.
  const Tensor& buffer();
};

// Makes `value` a parameter whose gradient is wanted: a zeroed fp32 buffer of its shape, made now or
// when it is first added to.
enum class GradBuffer : uint8_t { kNow, kWhenUsed };
void require_grad(Tensor& value, GradBuffer buffer = GradBuffer::kNow);

}  // namespace tenon
