#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes scores/cases.json: pairs of texts with their BLEU as sacrebleu gives it and their ROUGE F-measures as
rouge-score does, chosen where tokenizers go wrong and then drawn at random.

    python3 make_score_cases.py
"""
import importlib.metadata
import json
import random
from pathlib import Path

from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU

# (hypothesis, reference)
CHOSEN = [
    ("", ""), ("", "something"), ("something", ""), (" \n ", "x"), ("one", "one"), ("one two", "one two three"),
    ("The cat sat on the mat, 3.5 times.", "The cat sat on a mat, 3.5 times."),
    ("hello there", "hello there general kenobi"), ("Hello There", "hello there"), ("no word alike", "quite another"),
    ("It costs 1,000.50 dollars, or 5.", "It costs 1,000.50 dollars , or 5 ."),
    ("a..b ., .5 5. a.b 1.2.3 ...", "a . . b . , .5 5 . a . b 1.2.3 . . ."),
    ("1-2 a-1 1-a 12--3 -", "1 - 2 a-1 1 - a 12 - -3 -"), ("well-\nknown and\nold", "wellknown and old"),
    ("&quot;A&amp;B&quot; &lt;b&gt; &amp;lt; &nbsp;", "\"A&B\" <b> < & nbsp ;"),
    ("<skipped>rest <skip<skipped>ped>", "rest"), ("don't `stop' {it} [now] ^_^ \\ | ~", "don't ` stop' { it } [ now ] ^ _ ^"),
    ("né à l’école, 3,5 €.", "ne a l'ecole, 3,5 €."), ("中文。英文, 123", "中文。英文 , 123"), ("٣.١ ٣,١", "٣ . ١ ٣ , ١"),
    ("a\u00a0b\u2003c\u3000d\u200be\u2028f\x1cg\x85h\ufeffi", "a b c d e f g h i"),
    ("300 K at İzmir, Aİb ẞ ſ", "300 k at i zmir ai b ss s"), ("tail \x1f\u3000", "tail"),
    ("the the the the", "the cat the"), ("a b c d e f", "f e d c b a"), ("a b\nc d\ne", "c d\na b"),
    ("x y z\nx y z\nx", "x y\n\ny z\nz x y z"), ("a a b\nb a a", "a b a\nb b"),
    (" ".join("word%d" % (i % 70) for i in range(200)), " ".join("word%d" % (i * 3 % 70) for i in range(150))),
]
WORDS = "the a fox hen saw near river, hill. Old 3 3.5 1,000 x-1 &amp; \"so\" (it) it's \n é İ K . , - \u00a0".split(" ")


def drawn(rng):
    reference = [rng.choice(WORDS) for _ in range(rng.randrange(1, 40))]
    hypothesis = list(reference)
    for _ in range(rng.randrange(8)):
        at = rng.randrange(len(hypothesis) + 1)
        if rng.random() < 0.5:
            hypothesis[at:at + rng.randrange(4)] = []
        else:
            hypothesis[at:at] = [rng.choice(WORDS)]
    return rng.choice(["", " "]).join(hypothesis), " ".join(reference)


def main():
    rng = random.Random(5)
    pairs = CHOSEN + [drawn(rng) for _ in range(60)]
    sentence, corpus = BLEU(effective_order=True), BLEU()
    rouge = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
    cases = []
    for hypothesis, reference in pairs:
        f = {name: score.fmeasure for name, score in rouge.score(reference, hypothesis).items()}
        cases.append({"hypothesis": hypothesis, "reference": reference,
                      "bleu": sentence.sentence_score(hypothesis, [reference]).score, **f})
    whole = corpus.corpus_score([h for h, _ in pairs], [[r for _, r in pairs]])
    made = {"made_with": {name: importlib.metadata.version(name) for name in ("sacrebleu", "rouge-score")},
            "corpus": {"bleu": whole.score, "precisions": whole.precisions, "brevity_penalty": whole.bp,
                       "hypothesis_words": whole.sys_len, "reference_words": whole.ref_len},
            "cases": cases}
    lines = json.dumps(made, indent=0).replace("\n", "").replace("}, {", "},\n{").replace("},{", "},\n{")
    (Path(__file__).resolve().parent / "scores" / "cases.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
