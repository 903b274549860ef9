// SPDX-License-Identifier: Apache-2.0
#include "text/data/parquet_values.h"

#include <arrow/util/float16.h>

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <unordered_set>

namespace tenon {
namespace {

using Json = nlohmann::ordered_json;
using arrow::Type;

constexpr int kDepth = 64;

template <class Array>
Json bytes_at(const arrow::Array& array, int64_t i) {
  return std::string(static_cast<const Array&>(array).GetView(i));
}

template <class Array>
Json number_at(const arrow::Array& array, int64_t i) {
  return static_cast<const Array&>(array).Value(i);
}

Json half_at(const arrow::Array& array, int64_t i) {
  const uint16_t bits = static_cast<const arrow::HalfFloatArray&>(array).Value(i);
  return arrow::util::Float16::FromBits(bits).ToDouble();
}

template <class Array>
Json decimal_at(const arrow::Array& array, int64_t i) {
  return static_cast<const Array&>(array).FormatValue(i);
}

// ----------------------------------------------------------------------------- dates and times

constexpr int64_t kDay = 86'400;  // seconds

int64_t floor_of(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

std::string date_text(int64_t days) {
  constexpr int64_t kFirst = -719'162, kLast = 2'932'896;  // of the years 1 and 9999
  if (days < kFirst || days > kLast) {
    throw std::runtime_error("expected a date in the years 1 to 9999, got day " +
                             std::to_string(days) + " from 1970");
  }
  const std::chrono::year_month_day date{
      std::chrono::sys_days(std::chrono::days(static_cast<int>(days)))};
  char text[16];
  std::snprintf(text, sizeof text, "%04d-%02u-%02u", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  return text;
}

int64_t units_a_second(arrow::TimeUnit::type unit) {
  switch (unit) {
    case arrow::TimeUnit::SECOND: return 1;
    case arrow::TimeUnit::MILLI: return 1'000;
    case arrow::TimeUnit::MICRO: return 1'000'000;
    default: return 1'000'000'000;
  }
}

// "03:04:05", and a fraction of six or nine digits where there is one.
std::string time_text(int64_t units, int64_t a_second) {
  const int64_t second = floor_of(units, a_second);
  if (second < 0 || second >= kDay) {
    throw std::runtime_error("expected a time within a day, got second " + std::to_string(second));
  }
  char text[32];
  std::snprintf(text, sizeof text, "%02d:%02d:%02d", static_cast<int>(second / 3600),
                static_cast<int>(second / 60 % 60), static_cast<int>(second % 60));
  const int64_t nanos = (units - second * a_second) * (1'000'000'000 / a_second);
  if (nanos == 0) return text;
  char fraction[16];
  std::snprintf(fraction, sizeof fraction, ".%09lld", static_cast<long long>(nanos));
  return std::string(text) + std::string(fraction, nanos % 1000 == 0 ? 7 : 10);
}

template <class Array, class Type>
Json time_at(const arrow::Array& array, int64_t i) {
  const auto& type = static_cast<const Type&>(*array.type());
  return time_text(static_cast<const Array&>(array).Value(i), units_a_second(type.unit()));
}

Json timestamp_at(const arrow::Array& array, int64_t i) {
  const auto& type = static_cast<const arrow::TimestampType&>(*array.type());
  const int64_t value = static_cast<const arrow::TimestampArray&>(array).Value(i);
  const int64_t a_second = units_a_second(type.unit());
  const int64_t day = floor_of(floor_of(value, a_second), kDay);
  const std::string date = date_text(day);
  const std::string time = time_text(value - day * kDay * a_second, a_second);
  return date + "T" + time + (type.timezone().empty() ? "" : "+00:00");  // kept in UTC
}

Json date_at(const arrow::Array& array, int64_t i) {
  if (array.type_id() == Type::DATE32) {
    return date_text(static_cast<const arrow::Date32Array&>(array).Value(i));
  }
  return date_text(floor_of(static_cast<const arrow::Date64Array&>(array).Value(i), kDay * 1000));
}

// ----------------------------------------------------------------------------- values of values

template <class Array>
Json list_at(const arrow::Array& array, int64_t i, int depth) {
  const auto& lists = static_cast<const Array&>(array);
  Json list = Json::array();
  const int64_t begin = lists.value_offset(i), end = begin + lists.value_length(i);
  for (int64_t k = begin; k < end; ++k)
    list.push_back(parquet_value(*lists.values(), k, depth + 1));
  return list;
}

Json struct_at(const arrow::Array& array, int64_t i, int depth) {
  const auto& fields = static_cast<const arrow::StructArray&>(array);
  Json object = Json::object();
  for (int f = 0; f < fields.num_fields(); ++f) {
    add_unless_null(object, array.type()->field(f)->name(),
                    parquet_value(*fields.field(f), i, depth + 1));
  }
  return object;
}

// A map's key as the name of a member.
std::string name_of(const Json& key) {
  if (key.is_string()) return key.get<std::string>();
  if (key.is_number_integer() || key.is_boolean()) return key.dump();
  throw std::runtime_error("expected the keys of a map to be strings, integers or truth values");
}

Json map_at(const arrow::Array& array, int64_t i, int depth) {
  const auto& maps = static_cast<const arrow::MapArray&>(array);
  Json object = Json::object();
  std::unordered_set<std::string> seen;
  const int64_t begin = maps.value_offset(i), end = begin + maps.value_length(i);
  for (int64_t k = begin; k < end; ++k) {
    const std::string name = name_of(parquet_value(*maps.keys(), k, depth + 1));
    if (!seen.insert(name).second) throw std::runtime_error("expected each key of a map once");
    object.get_ref<Json::object_t&>().push_back({name, parquet_value(*maps.items(), k, depth + 1)});
  }
  return object;
}

Json entry_at(const arrow::Array& array, int64_t i, int depth) {
  const auto& coded = static_cast<const arrow::DictionaryArray&>(array);
  const int64_t code = coded.GetValueIndex(i);
  if (code < 0 || code >= coded.dictionary()->length()) {
    throw std::runtime_error("a value is not in its dictionary");
  }
  return parquet_value(*coded.dictionary(), code, depth + 1);
}

}  // namespace

Json parquet_value(const arrow::Array& array, int64_t i, int depth) {
  if (depth > kDepth) throw std::runtime_error("expected at most 64 levels of nesting, got more");
  if (array.IsNull(i)) return nullptr;
  switch (array.type_id()) {
    case Type::STRING:
    case Type::BINARY: return bytes_at<arrow::BinaryArray>(array, i);
    case Type::LARGE_STRING:
    case Type::LARGE_BINARY: return bytes_at<arrow::LargeBinaryArray>(array, i);
    case Type::STRING_VIEW:
    case Type::BINARY_VIEW: return bytes_at<arrow::BinaryViewArray>(array, i);
    case Type::FIXED_SIZE_BINARY: return bytes_at<arrow::FixedSizeBinaryArray>(array, i);
    case Type::BOOL: return number_at<arrow::BooleanArray>(array, i);
    case Type::INT8: return number_at<arrow::Int8Array>(array, i);
    case Type::INT16: return number_at<arrow::Int16Array>(array, i);
    case Type::INT32: return number_at<arrow::Int32Array>(array, i);
    case Type::INT64: return number_at<arrow::Int64Array>(array, i);
    case Type::UINT8: return number_at<arrow::UInt8Array>(array, i);
    case Type::UINT16: return number_at<arrow::UInt16Array>(array, i);
    case Type::UINT32: return number_at<arrow::UInt32Array>(array, i);
    case Type::UINT64: return number_at<arrow::UInt64Array>(array, i);
    case Type::HALF_FLOAT: return half_at(array, i);
    case Type::FLOAT: return number_at<arrow::FloatArray>(array, i);
    case Type::DOUBLE: return number_at<arrow::DoubleArray>(array, i);
    case Type::DECIMAL32: return decimal_at<arrow::Decimal32Array>(array, i);
    case Type::DECIMAL64: return decimal_at<arrow::Decimal64Array>(array, i);
    case Type::DECIMAL128: return decimal_at<arrow::Decimal128Array>(array, i);
    case Type::DECIMAL256: return decimal_at<arrow::Decimal256Array>(array, i);
    case Type::DATE32:
    case Type::DATE64: return date_at(array, i);
    case Type::TIME32: return time_at<arrow::Time32Array, arrow::Time32Type>(array, i);
    case Type::TIME64: return time_at<arrow::Time64Array, arrow::Time64Type>(array, i);
    case Type::TIMESTAMP: return timestamp_at(array, i);
    case Type::LIST: return list_at<arrow::ListArray>(array, i, depth);
    case Type::LARGE_LIST: return list_at<arrow::LargeListArray>(array, i, depth);
    case Type::LIST_VIEW: return list_at<arrow::ListViewArray>(array, i, depth);
    case Type::LARGE_LIST_VIEW: return list_at<arrow::LargeListViewArray>(array, i, depth);
    case Type::FIXED_SIZE_LIST: return list_at<arrow::FixedSizeListArray>(array, i, depth);
    case Type::STRUCT: return struct_at(array, i, depth);
    case Type::MAP: return map_at(array, i, depth);
    case Type::DICTIONARY: return entry_at(array, i, depth);
    case Type::EXTENSION: {
      const auto& extension = static_cast<const arrow::ExtensionArray&>(array);
      return parquet_value(*extension.storage(), i, depth + 1);
    }
    default: break;
  }
  const std::string type = array.type()->ToString();
  return Json::binary({type.begin(), type.end()});
}

void add_unless_null(Json& object, const std::string& name, Json value) {
  if (value.is_null()) return;
  object.get_ref<Json::object_t&>().push_back({name, std::move(value)});
}

}  // namespace tenon
