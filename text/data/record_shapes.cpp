// SPDX-License-Identifier: Apache-2.0
#include "text/data/record_shapes.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/data/record_fields.h"

namespace tenon {

const std::vector<RecordShape>& record_shapes() {
  using enum FieldUse;
  static const std::vector<RecordShape> shapes = {
      {"text", {{"text", kText, true}}},
      {"prompt-completion",
       {{"prompt", kAsked, true},
        {"completion", kAnswered, true},
        {"system", kSystem},
        {"tools", kTools},
        {"functions", kOutdated}}},
      {"alpaca",
       {{"instruction", kAsked, true},
        {"input", kInput},
        {"output", kAnswered, true},
        {"system", kSystem},
        {"history", kHistory},
        {"tools", kTools}}},
      {"chat",
       {{"messages", kMessages, true},
        {"system", kSystem},
        {"tools", kTools},
        {"functions", kOutdated}}},
      {"sharegpt",
       {{"conversations", kMessages, true},
        {"system", kSystem},
        {"tools", kTools},
        {"functions", kOutdated}}},
      {"openorca",
       {{"system_prompt", kSystem}, {"question", kAsked, true}, {"response", kAnswered, true}}},
      {"columns", {{"question", kAsked, true}, {"answer", kAnswered, true}, {"system", kSystem}}},
  };
  return shapes;
}

const FieldRow* RecordShape::find(FieldUse use) const {
  const auto row = std::find_if(fields.begin(), fields.end(),
                                [use](const FieldRow& field) { return field.use == use; });
  return row == fields.end() ? nullptr : &*row;
}

const std::string& RecordShape::field(FieldUse use) const {
  const FieldRow* const row = find(use);
  TENON_CHECK(row != nullptr, "[RecordShape::field] the shape has no such field");
  return row->name;
}

bool RecordShape::fits(const OrderedJson& record) const {
  return std::all_of(fields.begin(), fields.end(), [&](const FieldRow& field) {
    if (!field.needed) return true;
    const OrderedJson* const value = find_field(record, field.name);
    return value != nullptr && (value->is_string() || value->is_array());
  });
}

const RecordShape& shape_named(const std::string& name) {
  const std::vector<RecordShape>& all = record_shapes();
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const RecordShape& shape) { return shape.name == name; });
  TENON_CHECK(found != all.end(), "[shape_named] there is no such shape");
  return *found;
}

// "text" is what others may carry beside their own fields (the whole prompt written out), so it gives
// way, but not to a prompt and its completion: that is anyone's guess.
const RecordShape& fitting_shape(const OrderedJson& record, const std::string& place) {
  std::vector<const RecordShape*> fitting;
  for (const RecordShape& shape : record_shapes()) {
    if (shape.fits(record)) fitting.push_back(&shape);
  }
  if (fitting.size() > 1 && fitting[0]->name == "text" && fitting[1]->name != "prompt-completion") {
    fitting.erase(fitting.begin());
  }
  if (fitting.size() == 1) return *fitting[0];
  if (fitting.empty()) {
    std::string known;
    for (const RecordShape& shape : record_shapes()) {
      std::string names;
      for (const FieldRow& field : shape.fields) {
        if (field.needed) names += (names.empty() ? "" : " and ") + field.name;
      }
      known += (known.empty() ? "" : ", or ") + names;
    }
    fail_input("{}: expected the fields {} (--columns names any two); found: {}", place, known,
               fields_of(record));
  }
  std::string names;
  for (const RecordShape* shape : fitting) names += (names.empty() ? "" : ", ") + shape->name;
  fail_input(
      "{}: expected a record of one shape, got fields of several: --format must say which of {}",
      place, names);
}

}  // namespace tenon
