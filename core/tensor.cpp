// SPDX-License-Identifier: Apache-2.0
#include "core/tensor.h"

#include <algorithm>

#include "core/backend.h"

namespace tenon {

Shape::Shape(std::initializer_list<int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  TENON_CHECK(dims.size() <= dims_.size(), "[shape] at most {} dims, got {}", dims_.size(),
              dims.size());
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

int64_t Shape::operator[](int axis) const {
  const int index = axis < 0 ? axis + rank_ : axis;
  TENON_CHECK(index >= 0 && index < rank_, "[shape] no dim {} in {}", axis, text());
  return dims_[static_cast<size_t>(index)];
}

int64_t Shape::numel() const {
  int64_t count = 1;
  for (int axis = 0; axis < rank_; ++axis) count *= dims_[static_cast<size_t>(axis)];
  return count;
}

std::string Shape::text() const {
  std::string out = "[";
  for (int axis = 0; axis < rank_; ++axis) {
    out += fmt::format("{}{}", axis == 0 ? "" : ", ", dims_[static_cast<size_t>(axis)]);
  }
  return out + "]";
}

Tensor Tensor::empty(Shape shape, DType dtype, MemoryKind kind) {
  return empty(shape, dtype, Device::kCPU, kind);
}

Tensor Tensor::empty(Shape shape, DType dtype, Device device, MemoryKind kind) {
  Tensor tensor;
  tensor.storage_ = Storage::allocate(shape.numel() * size_of(dtype), kind, device);
  tensor.shape_ = shape;
  tensor.dtype_ = dtype;
  return tensor;
}

Tensor Tensor::zeros(Shape shape, DType dtype, MemoryKind kind) {
  return zeros(shape, dtype, Device::kCPU, kind);
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device, MemoryKind kind) {
  Tensor tensor = empty(shape, dtype, device, kind);
  tensor.zero();
  return tensor;
}

Tensor Tensor::borrow(const void* data, Shape shape, DType dtype,
                      std::shared_ptr<const void> owner) {
  Tensor tensor;
  tensor.storage_ = Storage::borrow(data, shape.numel() * size_of(dtype), std::move(owner));
  tensor.shape_ = shape;
  tensor.dtype_ = dtype;
  return tensor;
}

Tensor Tensor::view(Shape shape) const {
  TENON_CHECK(shape.numel() == numel(), "[view] {} elements of {} cannot be seen as {}", numel(),
              shape_.text(), shape.text());
  Tensor tensor = *this;
  tensor.shape_ = shape;
  return tensor;
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  const int64_t count = dim(0);
  TENON_CHECK(0 <= begin && begin <= end && end <= count, "[rows] {}..{} of {} rows", begin, end,
              count);
  const int64_t row = count == 0 ? 0 : numel() / count;
  Tensor tensor = detach();
  tensor.offset_ += begin * row * size_of(dtype_);
  switch (shape_.rank()) {
    case 1: tensor.shape_ = {end - begin}; break;
    case 2: tensor.shape_ = {end - begin, dim(1)}; break;
    case 3: tensor.shape_ = {end - begin, dim(1), dim(2)}; break;
    default: tensor.shape_ = {end - begin, dim(1), dim(2), dim(3)}; break;
  }
  return tensor;
}

Tensor Tensor::clone(MemoryKind kind) const {
  Tensor tensor = empty(shape_, dtype_, device(), kind);
  tensor.assign(*this);
  return tensor;
}

Tensor Tensor::detach() const {
  Tensor tensor = *this;
  tensor.slot_ = nullptr;
  return tensor;
}

Tensor Tensor::to(Device device, MemoryKind kind) const {
  if (!defined() || device == this->device()) return detach();
  Tensor tensor = empty(shape_, dtype_, device, kind);
  tensor.assign(*this);
  return tensor;
}

void Tensor::assign(const Tensor& other) {
  TENON_CHECK(other.dtype() == dtype_ && other.numel() == numel(),
              "[tensor] {} of {} cannot take {} of {}", shape_.text(), name_of(dtype_),
              other.shape().text(), name_of(other.dtype()));
  if (bytes() == 0 || raw() == other.raw()) return;
  if (device() == other.device()) {
    memory_of(device()).copy(raw(), other.raw(), bytes());
  } else if (device() == Device::kCPU) {
    memory_of(other.device()).download(raw(), other.raw(), bytes());
  } else {
    memory_of(device()).upload(raw(), other.raw(), bytes());
  }
}

void Tensor::zero() {
  if (bytes() > 0) memory_of(device()).zero(raw(), bytes());
}

const Tensor& GradSlot::buffer() {
  TENON_CHECK(parameter, "[tensor] the buffer of a gradient that is no parameter's");
  if (!grad.defined()) grad = Tensor::zeros(shape, DType::kF32, device, MemoryKind::kGradients);
  return grad;
}

void require_grad(Tensor& value, GradBuffer buffer) {
  auto slot = std::make_shared<GradSlot>();
  slot->parameter = true;
  slot->shape = value.shape();
  slot->device = value.device();
  if (buffer == GradBuffer::kNow) slot->buffer();
  value.set_slot(std::move(slot));
}

}  // namespace tenon
