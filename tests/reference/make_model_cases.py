#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the reference cases in cases/: small random models of each family with what PyTorch, transformers and peft compute
for them, in the layout that `tenon verify` reads (README.md beside this file).

    python3 make_model_cases.py [NAME...]        writes cases/NAME anew (all of them without a name)
    python3 make_model_cases.py --check DIR...   recomputes the expectations of existing cases and compares

Everything is fp32 on one thread with dropout 0 and eager attention, also where the weights are stored in a
half-width type: a case says what the rounded weights give, not what half-width arithmetic gives.
"""
import argparse
import copy
import json
import os
import re
import shutil
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

CASES_DIR = Path(__file__).resolve().parent / "cases"
STEPS = 10
ADAMW = dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, foreach=False)
FULL_LR, LORA_LR, CLIP = 1e-3, 5e-3, 1.0

# By family: classes of transformers, the prefix that some checkpoints leave out.
FAMILIES = {
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel, "transformer."),
    "opt": (transformers.OPTConfig, transformers.OPTForCausalLM, "model."),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, "model."),
}

# Gradients and trajectories are what makes a case large: these leave only what says whether a model computes the right
# thing forward, and the gradients of an adapter.
FORWARD_ONLY = r"grad\..*|lora\.logits"

# A third of these is the bias of keys, which changes no softmax: its gradient is noise, whose sign Adam follows.
KEY_BIASES = r"lora\.final\..*c_attn\.(lora_B\.)?bias"

# What is special about a case. `config` overrides the family's defaults; `old_form` rewrites config.json as older
# versions of transformers wrote it; `leave_out` names expectations that would
# only make the folder large: gradients of layer 0 have passed through layer 1, full_losses depend on the embedding's,
# and lora_loss sums lora.logits up.
CASES = {
    # Everything as GPT-2 has it.
    "gpt2-small": dict(
        seed=1, batch=2, tokens=20, dtype=torch.float32, shards=1, prefix="transformer.",
        config=dict(n_layer=2, n_embd=48, n_head=3, vocab_size=259, n_positions=64),
        lora=dict(r=4, lora_alpha=8, target_modules=["c_attn"]), leave_out=r"$^"),
    # Sizes that no vector length divides, an untied head, the exact GELU, names without "transformer.".
    "gpt2-odd": dict(
        seed=2, batch=2, tokens=37, dtype=torch.bfloat16, shards=1, prefix="",
        config=dict(n_layer=2, n_embd=72, n_head=3, vocab_size=331, n_positions=41, n_inner=100,
                    activation_function="gelu", layer_norm_epsilon=1e-6, scale_attn_by_inverse_layer_idx=True,
                    tie_word_embeddings=False, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0),
        lora=dict(r=5, lora_alpha=7, target_modules=["c_attn", "c_fc"]),
        leave_out=r"lora\.logits|grad\.transformer\.(wte|h\.1\..*(attn|c_fc|c_proj))\.weight"),
    # Three files, half-width weights, adapters on every linear of a block.
    "gpt2-sharded": dict(
        seed=3, batch=2, tokens=24, dtype=torch.float16, shards=3, prefix="transformer.",
        config=dict(n_layer=3, n_embd=40, n_head=4, vocab_size=259, n_positions=48, activation_function="relu",
                    scale_attn_weights=False),
        lora=dict(r=3, lora_alpha=6, target_modules=["c_attn", "c_proj", "c_fc"], use_rslora=True), leave_out=r"$^"),
    # OPT as OPT-125m has it; the padding token stands among the ids, and its row's gradient is special.
    "opt-small": dict(
        seed=4, batch=2, tokens=22, dtype=torch.float32, shards=1, prefix="model.", family="opt",
        config=dict(num_hidden_layers=2, hidden_size=48, num_attention_heads=3, ffn_dim=100, vocab_size=67,
                    word_embed_proj_dim=48, max_position_embeddings=40, pad_token_id=1),
        lora=dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]), leave_out=r"grad\..*fc1\.weight"),
    # As OPT-350m: norms behind, projections on the way in and out; no biases, GELU, names without "model.".
    "opt-behind": dict(
        seed=5, batch=2, tokens=19, dtype=torch.float16, shards=2, prefix="", family="opt",
        config=dict(num_hidden_layers=2, hidden_size=40, num_attention_heads=5, ffn_dim=72, vocab_size=83,
                    word_embed_proj_dim=24, max_position_embeddings=35, do_layer_norm_before=False, enable_bias=False,
                    activation_function="gelu", tie_word_embeddings=False),
        lora=dict(r=3, lora_alpha=5, target_modules=["k_proj", "out_proj", "fc1", "fc2", "project_in", "project_out"]),
        leave_out=r"$^"),
    # Heads of 24 that do not add up to the width, one head of keys, biases everywhere, linear scaling in the old form.
    "llama-odd": dict(
        seed=6, batch=2, tokens=27, dtype=torch.bfloat16, shards=3, prefix="model.", family="llama", old_form=True,
        config=dict(num_hidden_layers=2, hidden_size=40, num_attention_heads=2, num_key_value_heads=1, head_dim=24,
                    intermediate_size=56, vocab_size=117, max_position_embeddings=32, attention_bias=True, mlp_bias=True,
                    rope_parameters=dict(rope_type="linear", factor=2.5, rope_theta=5000.0)),
        lora=dict(r=3, lora_alpha=6,
                  target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
        leave_out=r"grad\..*mlp.*weight"),
    # Grouped queries, a tied head, Llama 3's scaling, a padding token among the ids, names without "model.".
    "llama-tied": dict(
        seed=7, batch=2, tokens=40, dtype=torch.float32, shards=1, prefix="", family="llama",
        config=dict(num_hidden_layers=2, hidden_size=32, num_attention_heads=4, num_key_value_heads=2,
                    intermediate_size=48, vocab_size=61, max_position_embeddings=48, tie_word_embeddings=True,
                    pad_token_id=3, rms_norm_eps=1e-5,
                    rope_parameters=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                         original_max_position_embeddings=24, rope_theta=500.0)),
        lora=dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]), leave_out=r"$^"),
    # The other ways to stretch the positions; dynamic ones past the positions of training.
    "llama-yarn": dict(
        seed=8, batch=2, tokens=45, dtype=torch.float32, shards=1, prefix="model.", family="llama",
        config=dict(num_hidden_layers=1, hidden_size=32, num_attention_heads=2, num_key_value_heads=2,
                    intermediate_size=48, vocab_size=61, max_position_embeddings=64, hidden_act="gelu",
                    rope_parameters=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16,
                                         beta_fast=8.0, rope_theta=2000.0)),
        lora=dict(r=2, lora_alpha=4, target_modules=["o_proj"]), leave_out=FORWARD_ONLY),
    "llama-dynamic": dict(
        seed=10, batch=2, tokens=45, dtype=torch.float32, shards=1, prefix="model.", family="llama", old_form=True,
        config=dict(num_hidden_layers=1, hidden_size=32, num_attention_heads=2, num_key_value_heads=2,
                    intermediate_size=48, vocab_size=61, max_position_embeddings=30,
                    rope_parameters=dict(rope_type="dynamic", factor=2.0, rope_theta=2000.0)),
        lora=dict(r=2, lora_alpha=4, target_modules=["o_proj"]), leave_out=FORWARD_ONLY),
    # DoRA on every linear of a block, with the biases of these trained.
    "gpt2-dora": dict(
        seed=4, batch=2, tokens=21, dtype=torch.float32, shards=1, prefix="transformer.",
        config=dict(n_layer=2, n_embd=40, n_head=4, vocab_size=131, n_positions=48),
        lora=dict(r=3, lora_alpha=6, target_modules="all-linear", use_dora=True, bias="lora_only"),
        leave_out=KEY_BIASES),
    # A tied head that is trained apart from the embedding, a whole norm, every bias, biases of B, and modules with a
    # rank and an alpha of their own.
    "gpt2-saved": dict(
        seed=5, batch=2, tokens=21, dtype=torch.bfloat16, shards=1, prefix="transformer.",
        config=dict(n_layer=2, n_embd=40, n_head=4, vocab_size=131, n_positions=48),
        lora=dict(r=3, lora_alpha=6, target_modules=r".*\.(c_attn|c_fc|c_proj)", exclude_modules=["attn.c_proj"],
                  modules_to_save=["lm_head", "ln_f"], bias="all", lora_bias=True,
                  rank_pattern={"h.0.mlp.c_fc": 5, "h.1.attn.c_attn": 2}, alpha_pattern={"c_proj": 9}),
        leave_out=KEY_BIASES),
    # The embedding of a tied head trained apart from the head, in fp16 beside positions; adapters in one block.
    "opt-embedding": dict(
        seed=11, batch=2, tokens=21, dtype=torch.float16, shards=1, prefix="model.", family="opt",
        config=dict(num_hidden_layers=3, hidden_size=40, num_attention_heads=4, ffn_dim=72, vocab_size=83,
                    word_embed_proj_dim=40, max_position_embeddings=40, pad_token_id=1),
        lora=dict(r=3, lora_alpha=6, target_modules=["q_proj", "fc1"], layers_to_transform=[1], layers_pattern="layers",
                  modules_to_save=["embed_tokens"]), leave_out=r"grad\..*"),
    # DoRA on some of the linears that share an x; a tied head and the norms trained apart.
    "llama-dora": dict(
        seed=12, batch=2, tokens=21, dtype=torch.bfloat16, shards=1, prefix="model.", family="llama",
        config=dict(num_hidden_layers=2, hidden_size=32, num_attention_heads=4, num_key_value_heads=2,
                    intermediate_size=48, vocab_size=61, max_position_embeddings=48, tie_word_embeddings=True),
        lora=dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"], use_dora=True,
                  use_rslora=True, modules_to_save=["lm_head", "post_attention_layernorm"]), leave_out=r"grad\..*"),
}


def random_weights(model):
    """Weights far from their initial values, so that each of them matters to the result."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            if re.search(r"(ln_\w+|norm)\.weight", name):
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_((0.1 if name.endswith("bias") else 0.06) * noise)


def write_checkpoint(model, case, folder):
    """config.json and the weights as transformers would save them, in `shards` files."""
    folder.mkdir(parents=True)
    config = copy.deepcopy(model.config)
    config.dtype = case["dtype"]
    config_class, model_class, prefix = FAMILIES[case.get("family", "gpt2")]
    config.architectures = [model_class.__name__]
    config.save_pretrained(folder)
    if case.get("old_form"):
        write_old_form(folder / "config.json")
    tensors = {name.replace(prefix, case["prefix"], 1): p.detach().to(case["dtype"]).contiguous()
               for name, p in model.named_parameters()}
    if case["shards"] == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    total = sum(t.nbytes for t in tensors.values())
    shards, before = [{} for _ in range(case["shards"])], 0
    for name, tensor in tensors.items():
        shards[before * case["shards"] // total][name] = tensor
        before += tensor.nbytes
    index = {"metadata": {"total_size": total}, "weight_map": {}}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, {"format": "pt"})
        index["weight_map"].update({name: file for name in shard})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def write_old_form(path):
    """The fields of rope as transformers 4 wrote them."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_model(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {key: value for key, value in info.items() if value}
    if wrong:
        sys.exit(f"{folder}: transformers reads it otherwise than meant: {wrong}")
    return model.eval()  # eval: dropout 0


def load_adapter(folder):
    model = peft.PeftModel.from_pretrained(load_model(folder / "model"), folder / "adapter", is_trainable=True)
    return model.eval()


def write_adapter(case, folder):
    model = peft.get_peft_model(load_model(folder / "model"), peft.LoraConfig(
        task_type="CAUSAL_LM", lora_dropout=0.0, fan_in_fan_out=case.get("family", "gpt2") == "gpt2", **case["lora"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            if "lora_magnitude" in name:  # they begin as the lengths of the weight's rows
                parameter.mul_(1 + 0.1 * noise)
            elif "lora_" in name:
                parameter.copy_(0.1 * noise)
            elif parameter.requires_grad:
                parameter.add_(0.03 * noise)
    model.peft_config["default"].base_model_name_or_path = "../model"
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)  # PEFT's model card says nothing about this one
    config_file = folder / "adapter" / "adapter_config.json"
    config = json.loads(config_file.read_text())
    if isinstance(config["target_modules"], list):
        config["target_modules"] = sorted(config["target_modules"])  # a set, whose order changes from run to run
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True))


def random_batch(case):
    """Random ids; each row's first third is a prompt that is not scored, and a few positions inside are not either."""
    vocabulary, shape = case["config"]["vocab_size"], (case["batch"], case["tokens"])
    ids = torch.randint(0, vocabulary, shape, dtype=torch.int32)
    labels = ids.clone()
    for row in range(shape[0]):
        labels[row, : int(torch.randint(1, shape[1] // 3 + 1, ()))] = -100
        labels[row, torch.randint(shape[1] // 2, shape[1] - 9, (2,))] = -100
    return ids, labels


def write_inputs(case, folder):
    ids, labels = random_batch(case)
    save_file({"input_ids": ids, "labels": labels}, folder / "inputs.safetensors")
    steps = {}
    for step in range(STEPS):
        steps[f"input_ids.{step}"], steps[f"labels.{step}"] = random_batch(case)
    save_file(steps, folder / "steps.safetensors")


def loss_of(model, ids, labels, **kwargs):
    return model(input_ids=ids.long(), labels=labels.long(), **kwargs)


def gradients(model, prefix):
    return {f"{prefix}grad.{adapter_name(name)}": p.grad.clone() for name, p in model.named_parameters()
            if p.requires_grad}


def adapter_name(name):
    """A parameter's name as PEFT writes it to a file, without the adapter's own name and its wrappers."""
    for part in (".default", ".base_layer", ".modules_to_save"):
        name = name.replace(part + ".", ".")
    return name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def norm_of_gradients(model):
    return float(torch.linalg.vector_norm(torch.stack(
        [torch.linalg.vector_norm(p.grad.double()) for p in model.parameters() if p.grad is not None])))


def train(model, steps, lr):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, **ADAMW)
    losses, norms = [], []
    for step in range(len(steps) // 2):
        optimizer.zero_grad()
        loss = loss_of(model, steps[f"input_ids.{step}"], steps[f"labels.{step}"]).loss
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, CLIP)))
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


def greedy(model, prompt, count):
    """`count` ids, the prompt's first. Refuses a tie that rounding could turn over."""
    ids = prompt.long()[None]
    while ids.shape[1] < count:
        best = model(input_ids=ids).logits[0, -1].topk(2)
        if best.values[0] - best.values[1] < 1e-3:
            sys.exit("two tokens are nearly equally likely in the greedy continuation: choose another seed")
        ids = torch.cat([ids, best.indices[:1, None]], dim=1)
    return ids[0].tolist()


def expectations(folder):
    """Tensors and figures that PyTorch computes for the case in `folder`."""
    inputs, steps = load_file(folder / "inputs.safetensors"), load_file(folder / "steps.safetensors")
    ids, labels = inputs["input_ids"], inputs["labels"]

    model = load_model(folder / "model")
    output = loss_of(model, ids, labels)
    output.loss.backward()
    tensors = {"logits": output.logits.detach(), **gradients(model, "")}
    figures = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
        "loss": output.loss.item(), "grad_norm": norm_of_gradients(model),
        "scored_tokens": int((labels[:, 1:] != -100).sum()),
    }
    with torch.no_grad():
        figures["greedy_from_first_8_tokens_of_row_0"] = greedy(model, ids[0, :8], 32)
        mask, unscored = torch.ones_like(ids).long(), labels.clone()
        mask[1, -9:], unscored[1, -9:] = 0, -100
        figures["loss_row1_last9_padded"] = loss_of(model, ids, unscored, attention_mask=mask).loss.item()
    model.zero_grad()
    figures["full_losses"], figures["full_grad_norms"] = train(model, steps, FULL_LR)

    model = load_adapter(folder)
    output = loss_of(model, ids, labels)
    output.loss.backward()
    tensors |= {"lora.logits": output.logits.detach(), **gradients(model, "lora.")}
    figures["lora_loss"] = output.loss.item()
    model.zero_grad()
    figures["lora_losses"], figures["lora_grad_norms"] = train(model, steps, LORA_LR)
    tensors |= {f"lora.final.{adapter_name(name)}": p.detach() for name, p in model.named_parameters()
                if p.requires_grad}
    return {name: t.contiguous() for name, t in tensors.items()}, figures


def make(name):
    case, folder = CASES[name], CASES_DIR / name
    torch.manual_seed(case["seed"])
    shutil.rmtree(folder, ignore_errors=True)
    config_class, model_class, _ = FAMILIES[case.get("family", "gpt2")]
    last = case["config"]["vocab_size"] - 1
    model = model_class(config_class(bos_token_id=last, eos_token_id=last, **case["config"]))
    random_weights(model)
    write_checkpoint(model, case, folder / "model")
    write_adapter(case, folder)
    write_inputs(case, folder)
    tensors, figures = expectations(folder)
    tensors = {key: t for key, t in tensors.items() if not re.fullmatch(case["leave_out"], key)}
    save_file(tensors, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps(figures, indent=1) + "\n")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1000:.0f} kB, loss {figures['loss']:.6f}, with the adapter {figures['lora_loss']:.6f}")


def check(folder):
    """Compares the stored expectations with newly computed ones; returns whether they agree."""
    tensors, figures = expectations(folder)
    stored = load_file(folder / "expected.safetensors")
    stored_figures = json.loads((folder / "expected.json").read_text())
    worst = {"tensor": 0.0, "figure": 0.0}
    for name, value in stored.items():
        error = float(torch.linalg.vector_norm(tensors[name] - value) / torch.linalg.vector_norm(value))
        worst["tensor"] = max(worst["tensor"], error)
    for name, value in stored_figures.items():
        if name in ("versions", "full_lr", "lora_lr"):
            continue
        difference = torch.tensor(figures[name], dtype=torch.double) - torch.tensor(value, dtype=torch.double)
        worst["figure"] = max(worst["figure"], float(difference.abs().max()))
    good = worst["tensor"] <= 1e-5 and worst["figure"] <= 2e-5
    print(f"{folder}: {'as stored' if good else 'DIFFERS'}; worst tensor {worst['tensor']:.1e} relative, "
          f"worst figure {worst['figure']:.1e}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; or folders with --check")
    parser.add_argument("--check", action="store_true", help="compare existing cases instead of writing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
    torch.use_deterministic_algorithms(True)
    if args.check:
        folders = [Path(name) for name in args.names] or [CASES_DIR / name for name in CASES]
        return 0 if all([check(folder) for folder in folders]) else 1
    for name in args.names or CASES:
        if name not in CASES:
            parser.error(f"no case {name!r}; there are {', '.join(CASES)}")
        make(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
