// SPDX-License-Identifier: Apache-2.0
// The shapes that records have: a row each, with the fields that it reads and what they are read as.
// A field that is in no row of its record's shape is passed over, and named at the start.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace tenon {

// What a field is read as, and so what it may be.
enum class FieldUse {
  kText,      // a string: the document
  kAsked,     // a string; in prompt-completion also a list of messages
  kInput,     // a string: what is asked about
  kAnswered,  // as kAsked
  kMessages,  // a list of messages
  kSystem,    // a string: the system message
  kHistory,   // a list of pairs of strings: what was asked and answered before
  kTools,     // a list of objects
  kOutdated   // refused where it says something: `functions`, which are `tools` today
};

struct FieldRow {
  std::string name;
  FieldUse use;
  bool needed = false;  // a record of this shape has it
};

struct RecordShape {
  std::string name;
  std::vector<FieldRow> fields;

  const FieldRow* find(FieldUse use) const;
  // The name of the field that is read as `use`. Requires: there is one.
  const std::string& field(FieldUse use) const;
  // Whether the record has all fields that are needed, each a string or a list.
  bool fits(const OrderedJson& record) const;
};

const std::vector<RecordShape>& record_shapes();

// The shape of that name. Requires: there is one.
const RecordShape& shape_named(const std::string& name);

// The one shape that fits. Throws Error(kInput) with the record's fields where none or several do.
const RecordShape& fitting_shape(const OrderedJson& record, const std::string& place);

}  // namespace tenon
