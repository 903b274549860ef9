// SPDX-License-Identifier: Apache-2.0
#include "comm/communicator.h"

#include <algorithm>
#include <array>
#include <utility>

#include "comm/call.h"
#include "core/error.h"

namespace tenon {

Element element_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return Element::kF32;
    case DType::kBF16: return Element::kBF16;
    case DType::kF16: return Element::kF16;
    case DType::kI32: return Element::kI32;
    case DType::kI64: return Element::kI64;
    case DType::kU8: return Element::kU8;
    case DType::kI8: return Element::kI8;
  }
  fail(Exit::kInternal, "[comm] dtype {} cannot travel", static_cast<int>(dtype));
}

int64_t size_of(Element element) {
  constexpr std::array<int64_t, 8> sizes = {4, 2, 2, 4, 8, 1, 1, 8};
  const size_t index = static_cast<size_t>(element);
  return index < sizes.size() ? sizes[index] : 0;
}

std::string text(const Signature& signature) {
  // Signatures come from other ranks too, and these may be of another build: no value is trusted as
  // an index.
  const auto name = [](const auto& names, auto value) {
    const size_t index = static_cast<size_t>(value);
    return index < names.size() ? names[index] : "?";
  };
  constexpr std::array kinds = {"all_reduce", "reduce_scatter", "all_gather",
                                "broadcast",  "barrier",        "message"};
  constexpr std::array elements = {"fp32",  "bf16",  "fp16", "int32",
                                   "int64", "uint8", "int8", "fp64"};
  constexpr std::array reductions = {"sum", "max", "min"};
  std::string line = name(kinds, signature.kind);
  if (signature.kind != Kind::kMessage) line += fmt::format(" #{}", signature.sequence);
  if (signature.kind == Kind::kBarrier) return line;
  line += fmt::format(" of {} {}", signature.count, name(elements, signature.element));
  if (signature.kind == Kind::kAllReduce || signature.kind == Kind::kReduceScatter) {
    line += fmt::format(" ({})", name(reductions, signature.reduce));
  }
  if (signature.kind == Kind::kBroadcast) line += fmt::format(" from {}", signature.root);
  return line;
}

void check_same(const Signature& mine, int rank, const Signature& theirs, int peer) {
  if (mine == theirs) return;
  const bool lower = rank < peer;  // the same text on both ranks
  fail(Exit::kEnvironment, "[comm] ranks disagree: rank {} calls {}, rank {} calls {}",
       std::min(rank, peer), text(lower ? mine : theirs), std::max(rank, peer),
       text(lower ? theirs : mine));
}

Communicator::Communicator(int rank, int size, std::string world)
    : rank_(rank), size_(size), world_(std::move(world)) {}

std::string Communicator::describe() const {
  return name_.empty() ? world_ : fmt::format("{} {}/{} ({})", name_, rank_, size_, world_);
}

std::shared_ptr<Completion> Communicator::make_completion() const {
  auto completion = std::make_shared<Completion>();
  completion->traffic = traffic_;
  completion->limit = timeout_;
  return completion;
}

void Communicator::set_timeout(double seconds) {
  TENON_CHECK(seconds > 0, "[comm] the time limit must be positive, got {}", seconds);
  timeout_ = seconds;
}

Work Communicator::count(const Call& call) {
  const Signature& signature = call.signature;
  TENON_CHECK(signature.count >= 0, "[comm] the number of elements must not be negative: {}",
              text(signature));
  TENON_CHECK(signature.count == 0 || (call.in != nullptr && call.out != nullptr),
              "[comm] no memory given: {}", text(signature));
  TENON_CHECK(signature.root >= 0 && signature.root < size_, "[comm] the group has {} ranks: {}",
              size_, text(signature));
  Call numbered = call;
  numbered.signature.sequence = ++sequence_;
  ++traffic_->operations;
  const bool whole = signature.kind == Kind::kAllReduce || signature.kind == Kind::kBroadcast;
  if (size_ > 1) traffic_->bytes += signature.bytes() * (whole ? 1 : size_);
  return begin(numbered);
}

Work Communicator::all_reduce(Buffer buffer, Reduce reduce) {
  return count({{Kind::kAllReduce, element_of(buffer.dtype), reduce, 0, 0, buffer.count},
                buffer.data,
                buffer.data});
}

Work Communicator::reduce_scatter(Buffer in, Buffer out, Reduce reduce) {
  TENON_CHECK(in.count == size_ * out.count && in.dtype == out.dtype,
              "[comm] reduce_scatter over {} ranks from {} {} to {} {}", size_, in.count,
              name_of(in.dtype), out.count, name_of(out.dtype));
  return count(
      {{Kind::kReduceScatter, element_of(in.dtype), reduce, 0, 0, out.count}, in.data, out.data});
}

Work Communicator::all_gather(Buffer in, Buffer out) {
  TENON_CHECK(out.count == size_ * in.count && in.dtype == out.dtype,
              "[comm] all_gather over {} ranks from {} {} to {} {}", size_, in.count,
              name_of(in.dtype), out.count, name_of(out.dtype));
  return count(
      {{Kind::kAllGather, element_of(in.dtype), Reduce::kSum, 0, 0, in.count}, in.data, out.data});
}

Work Communicator::broadcast(Buffer buffer, int root) {
  return count({{Kind::kBroadcast, element_of(buffer.dtype), Reduce::kSum, 0, root, buffer.count},
                buffer.data,
                buffer.data});
}

void Communicator::barrier() { count({}).wait(); }

void Communicator::all_reduce(std::span<double> values, Reduce reduce) {
  const int64_t n = static_cast<int64_t>(values.size());
  count({{Kind::kAllReduce, Element::kF64, reduce, 0, 0, n}, values.data(), values.data()}).wait();
}

void Communicator::all_reduce(std::span<int64_t> values, Reduce reduce) {
  all_reduce({values.data(), static_cast<int64_t>(values.size()), DType::kI64}, reduce).wait();
}

Work Communicator::pass(Buffer buffer, int peer, int tag, bool receives) {
  TENON_CHECK(peer >= 0 && peer < size_ && peer != rank_,
              "[comm] rank {} of {} cannot pass a message to rank {}", rank_, size_, peer);
  TENON_CHECK(tag >= 0 && tag < kTags, "[comm] a tag lies in [0, {}), got {}", kTags, tag);
  TENON_CHECK(buffer.count >= 0 && (buffer.count == 0 || buffer.data != nullptr),
              "[comm] no memory given: {} {}", buffer.count, name_of(buffer.dtype));
  const Signature signature = {Kind::kMessage, element_of(buffer.dtype), Reduce::kSum, 0, 0,
                               buffer.count};
  ++traffic_->operations;
  traffic_->bytes += signature.bytes();
  return begin(Message{signature, buffer.data, peer, tag, receives});
}

Work Communicator::send(Buffer buffer, int peer, int tag) { return pass(buffer, peer, tag, false); }
Work Communicator::recv(Buffer buffer, int peer, int tag) { return pass(buffer, peer, tag, true); }

std::vector<std::string> Communicator::all_gather_text(const std::string& text) {
  const size_t ranks = static_cast<size_t>(size_);
  int64_t length = static_cast<int64_t>(text.size());
  std::vector<int64_t> lengths(ranks);
  all_gather({&length, 1, DType::kI64}, {lengths.data(), size_, DType::kI64}).wait();

  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::string padded = text;
  padded.resize(static_cast<size_t>(longest));
  std::string all(ranks * padded.size(), '\0');
  all_gather({padded.data(), longest, DType::kU8}, {all.data(), size_ * longest, DType::kU8})
      .wait();

  std::vector<std::string> texts;
  for (size_t r = 0; r < ranks; ++r) {
    texts.push_back(all.substr(r * padded.size(), static_cast<size_t>(lengths[r])));
  }
  return texts;
}

std::unique_ptr<Communicator> Communicator::split(int color, int key, const std::string& name) {
  TENON_CHECK(color >= 0, "[comm] the color of a split must not be negative, got {}", color);
  const std::array<int64_t, 2> mine = {color, key};
  std::vector<std::array<int64_t, 2>> all(static_cast<size_t>(size_));
  all_gather({const_cast<int64_t*>(mine.data()), 2, DType::kI64},
             {all.data(), 2 * size_, DType::kI64})
      .wait();

  std::vector<int> members;
  for (int r = 0; r < size_; ++r) {
    if (all[static_cast<size_t>(r)][0] == color) members.push_back(r);
  }
  std::stable_sort(members.begin(), members.end(), [&](int a, int b) {
    return all[static_cast<size_t>(a)][1] < all[static_cast<size_t>(b)][1];
  });
  std::unique_ptr<Communicator> group = make_group(color, members);
  group->name_ = name;
  group->timeout_ = timeout_;
  return group;
}

}  // namespace tenon
