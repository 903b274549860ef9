#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/reference/tokenizer/: small tokenizers, and what Hugging Face's `tokenizers` does with hostile strings.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 && python3 tests/reference/make_tokenizer_cases.py

Every folder holds the files of one tokenizer and `cases.json`: for each string (bytes, in hex; they need not be UTF-8)
the ids with and without special tokens, and the text that the ids decode to; and the ids around a text. The tokenizers are trained on a text that
this script writes, so nothing of other people is in them.
"""
import contextlib
import io
import json
import pathlib
import random
import tempfile

import sentencepiece
import tokenizers
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

HERE = pathlib.Path(__file__).resolve().parent / "tokenizer"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CODES = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def corpus(seed=1, sentences=4000):
    """Plain sentences about who keeps what where, with numbers, contractions, code and other scripts."""
    rng = random.Random(seed)
    who = "Mira Tomas the baker a fox an old sailor she they we Jun Ödön Łukasz Zoë".split(" ")
    does = "keeps finds paints carries doesn't see can't open 'll mend won't sell has hidden".split(" ")
    what = "a lamp three coins the map boats bread an apple 12 keys a violin the well 3.50 naïve café".split(" ")
    where = "near the river, under the bridge. on the hill; at home! by the sea? in 1984: behind it".split(" ")
    other = ["привет мир", "你好，世界", "こんにちは", "안녕하세요", "for (int i = 0; i < n; ++i) {\n    x[i] += 1;\n}",
             "https://example.org/a?b=c&d=%20", "\t\ttab\tbed", "🙂👍🏽", "a\r\nb", "مرحبا"]
    lines = []
    for _ in range(sentences):
        words = [rng.choice(who), rng.choice(does), rng.choice(what), rng.choice(where)]
        lines.append(" ".join(words) + rng.choice(["", " " + rng.choice(other), "  ", "..."]))
    return "\n".join(lines)


def hostile(rng, names, count=220):
    """Strings of bytes: odd white space, marks, scripts, emoji, NUL, names of special tokens, and broken UTF-8."""
    pools = [range(32, 127), [9, 10, 11, 12, 13, 28, 32, 0x85, 0xA0, 0x1680, 0x180E, 0x2000, 0x2028, 0x202F, 0x3000,
                              0x200B, 0xFEFF], range(0xA0, 0x250), range(0x300, 0x370), range(0x600, 0x700),
             range(0x900, 0x980), range(0x4E00, 0x4F00), range(0xAC00, 0xAD00), range(0x1100, 0x1200),
             list(range(0x1F600, 0x1F650)) + [0x200D, 0xFE0F], list(range(0x660, 0x66A)) + list(range(0x2150, 0x2190)),
             [0, 1, 2, 0xFFFD, 0xFFFF, 0x10FFFF, 0xE000], [ord(c) for c in "'stmdrevl "], [10, 32, 32, 32, 9],
             [0x1C89, 0xA7CB, 0x105C0, 0x10D40, 0x116D0, 0x1E4D0, 0x323AF]]
    broken = [b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xff", b"\xe0\x9f\xbf",
              b"\xf8\x88\x80\x80\x80", b"\x80", b"\xc3", b"\xf0\x9f\x98\xf0\x9f\x98\x80"]
    strings = [b"", b" ", b"  ", b"\n", b"\n\n ", b" \n x", b"Hello world", b"it's I'LL we've 'tis 'd'", b"a  b   c    ",
               b"\xef\xbb\xbfbom", b"0123456789 1,000,000", b"x" * 300, b" " * 70 + b"y", b"\r\n\r\n",
               "e\u0301 \u00e9 \u1e9b\u0323".encode(), "\uc18c\u11a7 \u1100\u1161\u11a8".encode(),
               "a\u0301\u1dfa\u0323 \U00010f4c\U00010f4b \U00011935\U00011930 \u32ff".encode()]  # newer than the forms
    for name in names:
        for text in (name, name + name, "a" + name + "b", " " + name + " ", "a  " + name + "  b", name[:-1], name[1:],
                     "_" + name, name + "\n" + name, name.upper()):
            strings.append(text.encode())
    for _ in range(count):
        parts = []
        for _ in range(rng.randrange(1, 7)):
            kind = rng.random()
            if kind < 0.2:
                parts.append(rng.choice(names).encode())
            elif kind < 0.4:
                parts.append(rng.choice(broken))
            else:
                pool = list(rng.choice(pools))
                parts.append("".join(chr(rng.choice(pool)) for _ in range(rng.randrange(1, 9))).encode())
        strings.append(b"".join(parts))
    return list(dict.fromkeys(strings))


def save(name, tokenizer, files, seed):
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8", newline="")
    cases = []
    names = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    for data in hostile(random.Random(seed), names):
        text = data.decode("utf-8", errors="replace")
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        case = {"hex": data.hex(), "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
        if plain != ids:
            case["plain"] = plain
        cases.append(case)
    around = tokenizer.encode("", add_special_tokens=True).ids
    write_json(folder / "cases.json", {"tokenizers": tokenizers.__version__, "around": around, "cases": cases})


def save_sentencepiece(name, kind, text, seed, **options):
    """A sentencepiece model, without what its trainer writes of paths and settings."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(text.split("\n")), model_writer=model,
                                             model_type=kind, minloglevel=2, **options)
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    cases = []
    for data in hostile(random.Random(seed), ["<0x41>", "\u2581", "[INST]", "<ctl>"]):
        string = data.decode("utf-8", errors="replace")
        ids = pieces.encode(string)
        cases.append({"hex": data.hex(), "ids": ids, "decoded": pieces.decode(ids)})
    write_json(folder / "cases.json", {"sentencepiece": sentencepiece.__version__, "around": [pieces.bos_id()],
                                       "cases": cases})


def steps(text):
    """Tokenizers of other kinds than GPT-2's, by what they are made of: (name, Tokenizer)."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]

    def trained(normalizer, pre_tokenizer, decoder, byte_fallback, **model):
        tokenizer = Tokenizer(models.BPE())
        if normalizer:
            tokenizer.normalizer = normalizer
        if pre_tokenizer:
            tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.train_from_iterator(text.split("\n")[:400], trainers.BpeTrainer(
            vocab_size=520 if byte_fallback else 300, show_progress=False, max_token_length=10, limit_alphabet=90,
            special_tokens=["<unk>", "<s>", "</s>"] + (byte_tokens if byte_fallback else [])))
        description = json.loads(tokenizer.to_str())
        description["model"].update(model, unk_token="<unk>", byte_fallback=byte_fallback)
        description["added_tokens"] = description["added_tokens"][:3]
        tokenizer = Tokenizer.from_str(json.dumps(description))
        if decoder:
            tokenizer.decoder = decoder
        return tokenizer

    back = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                              decoders.Strip(" ", 1, 0)])
    # Llama 2's older and newer form.
    llama = trained(normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), None,
                    back, True, fuse_unk=True)
    llama.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    llama.add_tokens([AddedToken("the map", normalized=True), AddedToken("<t>", normalized=False)])
    yield "llama", llama
    metaspace = trained(None, pre_tokenizers.Metaspace(prepend_scheme="first"), back, True)
    metaspace.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    metaspace.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True)])
    yield "metaspace", metaspace
    # Everything else that a step may be.
    words = trained(
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(),
                              normalizers.Replace(Regex("^|x+"), "y"), normalizers.Strip(left=False, right=False)]),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_next"),
                                 pre_tokenizers.Digits(True)]), None, False, fuse_unk=True)
    words.add_tokens([AddedToken("Tomas", single_word=True, normalized=True)])
    yield "words", words
    runs = trained(normalizers.NFKC(), pre_tokenizers.Sequence([
        pre_tokenizers.Whitespace(), pre_tokenizers.Metaspace(replacement="_", prepend_scheme="always"),
        pre_tokenizers.Split("e", "merged_with_previous")]),
        decoders.Sequence([decoders.Metaspace(replacement="_"), decoders.Fuse(), decoders.Strip(".", 1, 0)]), False)
    yield "runs", runs
    spelled = trained(None, pre_tokenizers.Sequence([
        pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(False)]),
        decoders.Sequence([decoders.ByteLevel(), decoders.Replace("a", "A")]), False)
    yield "spelled", spelled


def write_json(path, value):
    """One case a line, so that a change can be read."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    path.write_text(text.replace('{"hex"', '\n{"hex"') + "\n", encoding="utf-8", newline="\n")


def as_text(description):
    return json.dumps(description, ensure_ascii=False, separators=(",", ":")) + "\n"


def fnv(numbers):
    """FNV-1a, one step a number."""
    result = 0xCBF29CE484222325
    for number in numbers:
        result = ((result ^ number) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{result:016x}"


def split_hash(pre_tokenizer):
    """FNV-1a of the lengths, in bytes, of the pieces of two strings around each code point."""
    return fnv(len(text[begin:end].encode())
               for c in map(chr, CODES) for text in ("a" + c + "1 " + c + c + "\n", " " + c + " '" + c + "s  " + c)
               for _, (begin, end) in pre_tokenizer.pre_tokenize_str(text))


def shared_hashes(shared):
    """The ids that published tokenizers give for whole files, as counts and hashes: neither is in this repository."""
    result = {"tokenizers": tokenizers.__version__}
    for name, file in (("gpt2", "gpt2"), ("neox", "neox")):
        tokenizer = Tokenizer.from_file(str(shared / "tokenizers" / file / "tokenizer.json"))
        result[name] = {}
        for text in sorted((shared / "text").glob("*.txt")):
            ids = tokenizer.encode(text.read_bytes().decode("utf-8", errors="replace"), add_special_tokens=False).ids
            result[name][text.name] = {"count": len(ids), "hash": fnv(ids)}
    return result


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    text = corpus()
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=640, show_progress=False, special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    description = json.loads(plain.to_str())
    model = description["model"]

    # As GPT-2's: once as tokenizer.json, once as vocab.json and merges.txt.
    save("gpt2", plain, {"tokenizer.json": as_text(description)}, seed=2)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    pair = Tokenizer(models.BPE(vocab=model["vocab"], merges=[tuple(m.split(" ")) for m in merges]))
    pair.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    pair.decoder = decoders.ByteLevel()
    pair.add_special_tokens(["<|endoftext|>"])
    save("vocab_merges", pair, {
        "vocab.json": as_text(model["vocab"]), "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        "tokenizer_config.json": json.dumps({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True,
                                             "eos_token": {"__type": "AddedToken", "content": "<|endoftext|>"}}),
    }, seed=3)

    # Everything that a byte-level tokenizer.json may ask for: merges as strings, a normalizer, a pattern of its own,
    # words that are taken whole, added tokens of every kind.
    rich = dict(description, model=dict(model, merges=merges, ignore_merges=True))
    rich = Tokenizer.from_str(json.dumps(rich))
    rich.normalizer = normalizers.Sequence([normalizers.NFC()])
    rich.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    rich.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True), AddedToken("<w>", single_word=True)])
    rich.add_tokens([AddedToken("   ", normalized=True), AddedToken("      ", normalized=True), AddedToken("Zoë"),
                     AddedToken("e\u0301te", normalized=True), AddedToken("<left>", lstrip=True, normalized=False),
                     AddedToken("<right>", rstrip=True, normalized=False), AddedToken("<rig", normalized=False),
                     AddedToken("word", single_word=True)])
    rich_description = json.loads(rich.to_str())
    rich_description["model"]["merges"] = merges
    save("features", rich, {"tokenizer.json": as_text(rich_description)}, seed=4)

    for seed, (name, tokenizer) in enumerate(steps(text), start=5):
        save(name, tokenizer, {"tokenizer.json": as_text(json.loads(tokenizer.to_str()))}, seed=seed)
    small = "\n".join(text.split("\n")[:1200])
    save_sentencepiece("spm_bpe", "bpe", small, seed=11, vocab_size=420, byte_fallback=True, character_coverage=0.99,
                       normalization_rule_name="identity", remove_extra_whitespaces=False,
                       user_defined_symbols=["[INST]"], control_symbols=["<ctl>"])
    # A map of characters that is small. The model keeps the file's path, so that is short.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        pathlib.Path("rules.tsv").write_text("FB01\t66 69\nE9\t65\nE9 301\t65 301\n3000\t20\n41\t61\n")
        save_sentencepiece("spm_unigram", "unigram", small, seed=12, vocab_size=140, character_coverage=0.99,
                           normalization_rule_tsv="rules.tsv")

    hashes = {"tokenizers": tokenizers.__version__,
              "gpt2": split_hash(pre_tokenizers.ByteLevel(add_prefix_space=False)),
              "llama3": split_hash(pre_tokenizers.Split(Regex(LLAMA3), "isolated")), "llama3_pattern": LLAMA3}
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            split = pre_tokenizers.Split(Regex(r"[a-c]|\d+"), behavior, invert)
            hashes[f"{behavior}{' inverted' if invert else ''}"] = [
                piece for piece, _ in split.pre_tokenize_str("xaab12-cc, b 7 zz")]
    (HERE / "splits.json").write_text(as_text(hashes), encoding="utf-8")

    shared = HERE.parents[3] / "shared" / "data"
    if shared.is_dir():
        (HERE / "shared.json").write_text(json.dumps(shared_hashes(shared), indent=1) + "\n", encoding="utf-8")


main()
