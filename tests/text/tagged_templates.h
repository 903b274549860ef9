// SPDX-License-Identifier: Apache-2.0
// Chat templates of the kinds that models carry, with {% generation %} put by hand around what the
// assistant says.
#pragma once

#include <string_view>

namespace tenon::test {

struct TaggedTemplate {
  std::string_view name, source;
};

constexpr TaggedTemplate kTaggedTemplates[] = {
    {"chatml", R"(
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}
{{- '<|im_start|>' + message['role'] + '\n' }}
{%- generation %}{{- message['content'] + '<|im_end|>' + '\n' }}{% endgeneration %}
{%- else %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %})"},

    {"one literal opens the prompt's reasoning", R"(
{%- for m in messages -%}
{{- '<|im_start|>' ~ m.role ~ '\n' -}}
{%- if m.role == 'assistant' -%}{%- generation -%}{{- m.content ~ '<|im_end|>\n' -}}{%- endgeneration -%}
{%- else -%}{{- m.content ~ '<|im_end|>\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' -}}{%- endif -%})"},

    {"reasoning, dropped from earlier turns, and calls", R"(
{%- if tools %}
  {{- '<|im_start|>system\n# Tools\n' }}
  {%- for tool in tools %}{{- tool|tojson ~ '\n' }}{% endfor %}
  {{- '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
  {%- if m.role == 'assistant' %}
    {%- set content = m.content if m.content is string else '' %}
    {%- set reasoning = m.reasoning_content or '' %}
    {%- if not reasoning and '</think>' in content %}
      {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
      {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- '<|im_start|>assistant\n' }}
    {%- generation %}
    {%- if loop.index0 > ns.last %}
      {{- '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
    {%- else %}
      {{- content }}
    {%- endif %}
    {%- for call in m.tool_calls or [] %}
      {%- if not loop.first or content %}{{- '\n' }}{% endif %}
      {{- '<tool_call>\n{"name": "' ~ call.function.name ~ '", "arguments": ' }}
      {{- call.function.arguments|tojson }}
      {{- '}\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
    {%- endgeneration %}
  {%- elif m.role == 'tool' %}
    {{- '<|im_start|>user\n<tool_response>\n' ~ m.content ~ '\n</tool_response><|im_end|>\n' }}
  {%- else %}
    {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %})"},

    {"header ids", R"(
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{- message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}
    {%- else %}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %})"},

    {"the assistant is called model", R"({{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] + '\n\n' -%}{%- set told = messages[1:] -%}
{%- else -%}
    {%- set prefix = '' -%}{%- set told = messages -%}
{%- endif -%}
{%- for message in told -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else '') }}
    {%- if role == 'model' -%}
        {%- generation -%}{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{%- endgeneration -%}
    {%- else -%}
        {{ message['content'] | trim }}{{ '<end_of_turn>\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%})"},

    {"no generation prompt", R"(
{%- set told = messages[1:] if messages[0]['role'] == 'system' else messages %}
{%- for message in told %}
{%- set content = message['content'] %}
{%- if loop.first and messages[0]['role'] == 'system' %}
{%- set content = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' + content %}
{%- endif %}
{%- if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{%- else %}
{%- generation %}{{- ' ' + content.strip() + ' ' + eos_token }}{% endgeneration %}
{%- endif %}
{%- endfor %})"},

    {"calls without words", R"(
{{- bos_token }}
{%- for m in messages %}
  {%- if m.role == 'user' %}
    {{- '[INST] ' ~ m.content ~ '[/INST]' }}
  {%- elif m.role == 'tool' %}
    {{- '[TOOL_RESULTS]' ~ {'content': m.content}|tojson ~ '[/TOOL_RESULTS]' }}
  {%- elif m.tool_calls %}
    {%- generation %}
    {{- '[TOOL_CALLS] [' }}
    {%- for call in m.tool_calls %}
      {%- set out = call.function|tojson %}
      {{- out[:-1] ~ ', "id": "' ~ call.id ~ '"}' ~ (', ' if not loop.last) }}
    {%- endfor %}
    {{- ']' ~ eos_token }}
    {%- endgeneration %}
  {%- elif m.role == 'assistant' %}
    {%- generation %}{{- ' ' ~ m.content|trim ~ eos_token }}{% endgeneration %}
  {%- endif %}
{%- endfor %})"},

    {"line ends between", R"(
{% for message in messages %}
{% if message['role'] == 'assistant' %}
{{ '<|assistant|>' }}
{% generation %}
{{ message['content'] + eos_token }}
{% endgeneration %}
{% else %}
{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
)"},

    {"what is thought is never written", R"(
{{- bos_token }}
{%- for m in messages %}
{%- if m.role == 'user' %}{{- '<|User|>' ~ m.content }}{% endif %}
{%- if m.role == 'assistant' %}
{%- set said = m.content.split('</think>')[-1] if '</think>' in m.content else m.content %}
{{- '<|Assistant|>' }}{% generation %}{{ said ~ '<|end_of_sentence|>' }}{% endgeneration %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|Assistant|><think>\n' }}{% endif %})"},

    {"macros", R"(
{%- macro turn(role) -%}<|turn|><|{{ role }}|>{%- endmacro -%}
{%- macro body(m) -%}{{ m.content|replace('\r', '') }}<|end_turn|>{%- endmacro -%}
{{ bos_token }}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{{ turn('bot') }}{%- generation -%}{{ body(m) }}{%- endgeneration -%}
{%- else -%}
{{ turn(m.role) ~ body(m) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ turn('bot') }}{%- endif -%})"},

    {"channels, a block that is set", R"(
{%- macro channel(name) -%}{{ '<|channel|>' + name + '<|message|>' }}{%- endmacro -%}
{%- for m in messages -%}
{{- '<|start|>' + m.role -}}
{%- if m.role == 'assistant' -%}
  {%- set said -%}
    {%- generation -%}
    {%- if m.reasoning_content and loop.last -%}
      {{- channel('analysis') ~ m.reasoning_content ~ '<|end|><|start|>assistant' -}}
    {%- endif -%}
    {{- channel('final') ~ m.content ~ ('<|return|>' if loop.last else '<|end|>') -}}
    {%- endgeneration -%}
  {%- endset -%}
  {{- said -}}
{%- else -%}
  {{- '<|message|>' + m.content + '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%})"},

    {"a loop over numbers", R"(
{%- for i in range(messages|length) %}
{%- if messages[i].role == 'assistant' %}
{{- '<|bot|>' }}{% generation %}{{ messages[i].content ~ '<|stop|>' }}{% endgeneration %}
{%- else %}
{{- '<|' ~ messages[i].role ~ '|>' ~ messages[i]['content'] ~ '<|stop|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|bot|>' }}{% endif %})"},

    {"a marker behind what is written", R"(
{%- for m in messages %}
{%- if not loop.first %}{{- '\n' }}{% endif %}
{{- '<|start_of_role|>' ~ m.role ~ '<|end_of_role|>' }}
{%- filter replace('\t', ' ') %}
{%- if m.role == 'assistant' %}{% generation %}{{- m.content ~ '<|end_of_text|>' }}{% endgeneration %}
{%- else %}{{- m.content ~ '<|end_of_text|>' }}{% endif %}
{%- endfilter %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\n<|start_of_role|>assistant<|end_of_role|>' }}{% endif %})"},
};

}  // namespace tenon::test
