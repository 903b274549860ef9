// SPDX-License-Identifier: Apache-2.0
#include "text/chat/chat_builtins.h"

namespace tenon {
namespace {

// "<|im_start|>role\n...<|im_end|>\n"
constexpr std::string_view kChatml = R"({%- for message in messages %}
  {{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

// ChatML with SmolLM2's own system message where there is none.
constexpr std::string_view kSmollm2 = R"({%- for message in messages %}
  {%- if loop.first and message.role != 'system' %}
    {{- '<|im_start|>system\n' }}
    {{- 'You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}
  {%- endif %}
  {{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

// "<s>[INST] <<SYS>>\nsystem\n<</SYS>>\n\nuser [/INST] assistant </s>"
constexpr std::string_view kLlama2 = R"({%- set bos_token = bos_token or '<s>' %}
{%- set eos_token = eos_token or '</s>' %}
{%- set ns = namespace(system='') %}
{%- for message in messages %}
  {%- if message.role == 'system' and loop.first %}
    {%- set ns.system = '<<SYS>>\n' ~ message.content ~ '\n<</SYS>>\n\n' %}
  {%- elif message.role == 'user' %}
    {{- bos_token ~ '[INST] ' ~ (ns.system ~ message.content)|trim ~ ' [/INST]' }}
    {%- set ns.system = '' %}
  {%- elif message.role == 'assistant' %}
    {{- ' ' ~ message.content|trim ~ ' ' ~ eos_token }}
  {%- else %}
    {{- raise_exception('llama2 knows user, assistant and a first system, not ' ~ message.role) }}
  {%- endif %}
{%- endfor %}
)";

// "<|begin_of_text|><|start_header_id|>role<|end_header_id|>\n\n...<|eot_id|>"
constexpr std::string_view kLlama3 = R"({%- set bos_token = bos_token or '<|begin_of_text|>' %}
{{- bos_token }}
{%- for message in messages %}
  {{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n\n' }}
  {{- message.content|trim ~ '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
)";

// "<s>[INST] user [/INST] assistant</s>", a system message before the first user's.
constexpr std::string_view kMistral = R"({%- set bos_token = bos_token or '<s>' %}
{%- set eos_token = eos_token or '</s>' %}
{%- set ns = namespace(system='') %}
{{- bos_token }}
{%- for message in messages %}
  {%- if message.role == 'system' and loop.first %}
    {%- set ns.system = message.content ~ '\n\n' %}
  {%- elif message.role == 'user' %}
    {{- '[INST] ' ~ ns.system ~ message.content ~ ' [/INST]' }}
    {%- set ns.system = '' %}
  {%- elif message.role == 'assistant' %}
    {{- ' ' ~ message.content|trim ~ eos_token }}
  {%- else %}
    {{- raise_exception('mistral knows user, assistant and a first system, not ' ~ message.role) }}
  {%- endif %}
{%- endfor %}
)";

// "<|role|>\n...</s>\n", as TinyLlama has it too.
constexpr std::string_view kZephyr = R"({%- set eos_token = eos_token or '</s>' %}
{%- for message in messages %}
  {{- '<|' ~ message.role ~ '|>\n' ~ message.content ~ eos_token ~ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|assistant|>\n' }}
{%- endif %}
)";

// Stanford's prompt. A system message stands in the place of its first paragraph.
constexpr std::string_view kAlpaca = R"({{- bos_token }}
{%- if messages[0].role == 'system' %}
  {{- messages[0].content ~ '\n\n' }}
{%- else %}
  {{- 'Below is an instruction that describes a task. ' }}
  {{- 'Write a response that appropriately completes the request.\n\n' }}
{%- endif %}
{%- for message in messages %}
  {%- if loop.previtem is defined and loop.previtem.role == 'assistant' %}
    {{- '\n\n' }}
  {%- endif %}
  {%- if message.role == 'user' %}
    {{- '### Instruction:\n' ~ message.content ~ '\n\n' }}
  {%- elif message.role == 'assistant' %}
    {{- '### Response:\n' ~ message.content ~ eos_token }}
  {%- elif not (message.role == 'system' and loop.first) %}
    {{- raise_exception('alpaca knows user, assistant and a first system, not ' ~ message.role) }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '### Response:\n' }}
{%- endif %}
)";

// "system USER: ... ASSISTANT: ...</s>"
constexpr std::string_view kVicuna = R"({%- set bos_token = bos_token or '<s>' %}
{%- set eos_token = eos_token or '</s>' %}
{{- bos_token }}
{%- if messages[0].role == 'system' %}
  {{- messages[0].content ~ ' ' }}
{%- else %}
  {{- 'A chat between a curious user and an artificial intelligence assistant. The assistant ' }}
  {{- 'gives helpful, detailed, and polite answers to the user\'s questions. ' }}
{%- endif %}
{%- for message in messages %}
  {%- if message.role == 'user' %}
    {{- 'USER: ' ~ message.content ~ ' ' }}
  {%- elif message.role == 'assistant' %}
    {{- 'ASSISTANT: ' ~ message.content ~ eos_token }}
  {%- elif not (message.role == 'system' and loop.first) %}
    {{- raise_exception('vicuna knows user, assistant and a first system, not ' ~ message.role) }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- 'ASSISTANT: ' }}
{%- endif %}
)";

// The messages alone, each on lines of its own.
constexpr std::string_view kPlain = R"({{- bos_token }}
{%- for message in messages %}
  {{- message.content ~ (eos_token if message.role == 'assistant' else '\n') }}
{%- endfor %}
)";

constexpr ChatBuiltin kBuiltins[] = {
    {"chatml", kChatml},   {"llama2", kLlama2}, {"llama3", kLlama3},
    {"mistral", kMistral}, {"zephyr", kZephyr}, {"smollm2", kSmollm2},
    {"alpaca", kAlpaca},   {"vicuna", kVicuna}, {"plain", kPlain},
};

}  // namespace

std::span<const ChatBuiltin> chat_builtins() { return kBuiltins; }

}  // namespace tenon
