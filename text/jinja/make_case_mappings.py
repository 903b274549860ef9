#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes case_mappings.h: what Python's str says of cases that is not in a character's simple mappings and category.

    python3 text/jinja/make_case_mappings.py > text/jinja/case_mappings.h
"""
import unicodedata

CODES = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def literal(text):
    return '"' + "".join(f"\\u{ord(c):04X}" for c in text) + '"'


def mappings(name, what, function):
    rows = [f"    {{0x{ord(c):04X}, {literal(function(c))}}}," for c in CODES if len(function(c)) > 1]
    return [f"// {what}", f"inline constexpr CaseMapping {name}[] = {{", *rows, "};", ""]


def ranges(name, what, is_member):
    runs = []
    for code in range(0x110000):
        if 0xD800 <= code <= 0xDFFF or not is_member(chr(code)):
            continue
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    rows = [f"    {{0x{a:04X}, 0x{b:04X}}}," for a, b in runs]
    return [f"// {what}", f"inline constexpr CodeRange {name}[] = {{", *rows, "};", ""]


lines = [
    "// SPDX-License-Identifier: Apache-2.0",
    f"// Made by make_case_mappings.py with Python's tables of Unicode {unicodedata.unidata_version}: do not edit.",
    "#pragma once",
    "",
    "namespace tenon::jinja {",
    "",
    "// What a character becomes where that is more than one, in UTF-8.",
    "struct CaseMapping {",
    "  char32_t code;",
    "  const char* text;",
    "};",
    "struct CodeRange {",
    "  char32_t first, last;",
    "};",
    "",
    *mappings("kUpperMappings", "str.upper().", str.upper),
    *mappings("kTitleMappings", "str.capitalize(), where it is not as above.",
              lambda c: c.capitalize() if c.capitalize() != c.upper() else c),
    *ranges("kOtherLower", "Lower case, though the category is not Ll.",
            lambda c: c.islower() and unicodedata.category(c) != "Ll"),
    *ranges("kOtherUpper", "Upper case, though the category is not Lu.",
            lambda c: c.isupper() and unicodedata.category(c) != "Lu"),
    *ranges("kOtherDigits", "Digits, though the category is not Nd.",
            lambda c: c.isdigit() and unicodedata.category(c) != "Nd"),
    "}  // namespace tenon::jinja",
]
print("\n".join(lines))
