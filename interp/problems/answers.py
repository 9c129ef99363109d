r"""The final answer of a free text, and whether it is right.

Models end their reasoning in many ways: `#### 42` (GSM8K), `\boxed{42}`, "the answer is 42.", or a bare number. What is
boxed or follows `####` counts first, then the last statement of the answer; without either it is the last number or
expression, or the last words. Whether it equals the right answer is for `interp.problems.equality` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from interp.problems.equality import is_mathematics, is_time_or_date, same_answer, tidied, words_of
from interp.problems.numbers import NUMBER, last_number, number_of, number_spans, numbers_in, with_plain_numbers
from interp.runtime.renames import warn_old_name

__all__ = ["FinalAnswer", "answer_is_right", "final_answer", "last_number", "number_of", "numbers_in", "plain"]

_BOX = re.compile(r"\\f?box(?:ed)?\s*\{|\\f?box(?:ed)?(?=[ \d\\])|####")
_STATED = re.compile(
    r"""(?<!this\s)(?<!that\s)(?<!your\s)(?<!an\s)\banswer(?:\s*\([^)]*\))?\s*(?:is|:|=|：|would\ be|must\ be)\s*:?
        |答案(?:是|为|：|:)|答え(?:は|：|:)|(?:정답|답)(?:은|:|：)|ответ\s*[:—–-]|(?:الجواب|الإجابة)\s*(?:هو|هي|:)
        |(?:उत्तर|উত্তর)\s*(?:है|:)|απάντηση\s+είναι|תשובה\s*(?:היא|:)
        |(?:réponse|respuesta|risposta|resposta|antwort)(?:\ \w+)?\s*(?:est|es|è|é|ist|lautet|:)\s*:?""",
    re.IGNORECASE | re.VERBOSE,
)
# A statement ends at a line's end or a full stop; not after an initial or a title.
_END = re.compile(r"(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bSt)(?<!\b[A-Z])[.!?](?=[\"')*\]$]*(?:\s|$))|[。！？]")
_CLAUSE = r"since|because|as|which|so|where|who|when|while|the|not|given|though|although|but|for|with|hence|thus|therefore|if|that"
_CUT = re.compile(
    rf"\s*(?:[,;:(，；、]\s*(?=(?:{_CLAUSE})\b)|\s(?:since|because|given that|so that)\b|[;；]|\s[-–—]\s|，)", re.I
)
_LIST = re.compile(r"\s*(?:,|\band\b|\bor\b|, and|, or)\s*", re.I)
_INLINE = re.compile(r"\$[^$\n]+\$|\\\([^\n]+?\\\)|-?\d*\\(?:[dt]?frac\s*\{[^{}]*\}\s*\{[^{}]*\}|sqrt\s*\{[^{}]*\})")
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_CHOICE = re.compile(r"\(?([A-J])\)?\.?")
# What says that the letter after it is not the choice.
_DENIED = re.compile(
    r"(?:\bnot|n['’]t|\bcannot|\bnever|\bneither|\bnor|\bexcept(?: for)?|\brather than|\binstead of)"
    r"(?:\s+(?:be|choose|pick|an?|the|answer|option|choice))*\s*\(?[A-J](?:\)|(?![\w']))"
    r"(?:\s+n?or\s+\(?[A-J](?:\)|(?![\w'])))*(?:\s*,?\s*(?:but|nor)\b)?",
    re.IGNORECASE,
)
# A reason behind a choice, which names other choices.
_REASON = re.compile(
    r"(?<=[A-J)])\s+(?:because|since)\b[^.;]*?(?=\b(?:so|therefore|hence|thus)\b|[.;]|$)", re.IGNORECASE
)
# What stands before a number that is not the answer.
_NOT_ANSWER = re.compile(rf"(?:\bnot|n['’]t|\bnever|\bbetween(?:\s+{NUMBER}\s+and)?)\s+$", re.IGNORECASE)
# Verbs at the end of a Korean or Japanese statement.
_POLITE = re.compile(r"(?:입니다|이에요|예요|です|である|だ)[.。]?$")
_OUTER = " \t\r\n.,;:!?\"'`*$()[]{}"


@dataclass(frozen=True)
class FinalAnswer:
    """The final answer of a text.

    Attributes:
        text: The answer.
        before: The text before it.
        marked: Whether a marker announces it.
    """

    text: str
    before: str
    marked: bool


def final_answer(text: str, gold: str = "") -> FinalAnswer:
    """Return the final answer of a free text: boxed, else stated, else the last number, else the last line.

    Args:
        text: The text.
        gold: The right answer; of several statements, the last one of its kind (mathematics or words) counts.
    """
    boxes = list(_boxes(text))
    if boxes:
        return FinalAnswer(", ".join(boxes[0][0]), text[: boxes[0][1]], True)
    statements = [(_statement(text[match.end() :]), match.start()) for match in _STATED.finditer(text)]
    statements = [(stated, start) for stated, start in statements if stated]
    if statements:
        wanted = is_mathematics(gold)
        alike = [pair for pair in statements if not wanted or re.search(r"\d|\\[a-z]", tidied(pair[0]))]
        stated, start = (alike or statements)[-1]
        return FinalAnswer(stated, text[:start], True)
    bare = text.strip(" \n\t")
    if is_mathematics(bare) and ("=" not in bare or is_mathematics(gold)):
        return FinalAnswer(bare, "", False)
    ends = [match.span() for match in _INLINE.finditer(text) if is_mathematics(match.group())]
    spans = sorted([*number_spans(text), *ends], key=lambda span: (span[1], -span[0]))
    spans = [span for span in spans if not _NOT_ANSWER.search(text[: span[0]])]
    if spans:
        start, end = spans[-1]
        return FinalAnswer(text[start:end].strip(), text[:start], False)
    before, _, line = text.rstrip().rpartition("\n")
    return FinalAnswer(line.strip(), before, False)


def answers(text: str, gold: str) -> bool:
    """Return `answer_is_right(text, gold)`: the old name, which works until version 0.3."""
    warn_old_name("interp.problems.answers.answers", "answer_is_right")
    return answer_is_right(text, gold)


def answer_is_right(text: str, gold: str) -> bool:
    """Return whether a free text's final answer is `gold`.

    Args:
        text: What was written; of a thought and an answer, the answer alone.
        gold: The right answer: a number, an expression, a letter of a multiple choice, or words.
    """
    bare = text.strip(" \t\r\n*`$").rstrip(".")
    if bare == gold:
        return True
    if _INTEGER.fullmatch(bare) and _INTEGER.fullmatch(gold):
        return int(bare) == int(gold)
    text, gold = with_plain_numbers(text), with_plain_numbers(gold)
    if _CHOICE.fullmatch(gold):
        text = _without_denied(text)
    answer = final_answer(text, gold)
    if is_mathematics(gold):
        return same_answer(_mathematics(answer.text, gold), gold)
    if answer.marked:
        return any(_says(stated, gold) for stated in dict.fromkeys((answer.text, _POLITE.sub("", answer.text))))
    if _CHOICE.fullmatch(gold) and (letters := re.findall(r"(?<![A-Za-z'])\(?([A-J])(?:\)|(?![A-Za-z'+#-]))", text)):
        return letters[-1] == _CHOICE.fullmatch(gold)[1] and not _of_several(text, letters)  # type: ignore[index]
    if _says(text, gold) or _opens_with(text, gold):
        return True
    wanted, written = words_of(gold).split(), words_of(text).split()
    denied = written[: -len(wanted)][-1:] in (["not"], ["no"], ["isn't"], ["never"])
    return bool(wanted) and written[-len(wanted) :] == wanted and not denied


def _opens_with(text: str, gold: str) -> bool:
    """Return whether a text begins with the sentence `gold`, a yes or no, and does not say the opposite later."""
    wanted = words_of(gold)
    opposite = {"yes": "no", "no": "yes", "true": "false", "false": "true"}.get(wanted)
    first, _, rest = re.sub(r"([.!?])\s", r"\1\n", text.strip()).partition("\n")
    return opposite is not None and words_of(first) == wanted and opposite not in words_of(rest).split()


def _without_denied(text: str) -> str:
    """Return a text without the letters of choices that it denies, or names in a reason: `B and` of "B and not C"."""
    nor = re.compile(r"(\bneither\b.*?[A-J]\b\)?)\s+nor\s+\(?[A-J]\b\)?", re.IGNORECASE)
    return _REASON.sub(" ", _DENIED.sub("", nor.sub(r"\1", text)))


def plain(text: str) -> str:
    """Return the words of a text in lower case without punctuation around them."""
    return " ".join(filter(None, (word.strip(_OUTER).casefold() for word in text.split())))


def _boxes(text: str) -> Iterator[tuple[list[str], int]]:
    """Yield the last boxed answer and where it begins; boxes that follow each other closely are one list."""
    boxes: list[tuple[str, int, int]] = []
    for match in _BOX.finditer(text):
        after = text[match.end() :]
        if match.group() == "####":
            content = _statement(after)
        elif match.group().endswith("{"):
            content = _braced(after)
        else:
            content = re.split(r"[$\n]|\\[\])]|\.?(?:\s|$)", after.lstrip(), maxsplit=1)[0]
        if content.strip():
            boxes.append((content.strip(), match.start(), match.end() + len(content) + 1))
    if not boxes:
        return
    last = [boxes.pop()]
    while boxes and re.fullmatch(r"[\s$,]*(?:and|or)?[\s$]*", text[boxes[-1][2] : last[0][1]], re.IGNORECASE):
        last.insert(0, boxes.pop())
    yield [content for content, _, _ in last], last[0][1]


def _says(stated: str, gold: str) -> bool:
    """Return whether a statement of words is `gold`, alone or before a clause about it."""
    choice = _CHOICE.fullmatch(tidied(gold))
    if choice:
        bare = tidied(stated)
        first = re.match(r"(?:option|choice|answer)?\s*(?:\(([A-Ja-j])\)|([A-J])(?![\w'+#-]))\s*(.*)", bare, re.DOTALL)
        if first is None:
            return words_of(stated) == words_of(gold)
        is_list = re.match(r"(?:,|and\b|or\b|/|&)\s*(?:or\s|and\s)?\(?[A-J](?![\w'])", first[3])
        return (first[1] or first[2]).upper() == choice[1] and not is_list
    if same_answer(stated, gold):
        return True
    if "(" not in gold and same_answer(re.sub(r"\s*\([^()]*\)\s*$", "", stated), gold):
        return True
    return any(same_answer(stated[: match.start()], gold) for match in _CUT.finditer(stated)) or _begins(stated, gold)


def _begins(stated: str, gold: str) -> bool:
    """Return whether a statement is `gold` and then, behind a comma, a remark of several words that is no list."""
    head, comma, tail = stated.partition(",")
    remark = tail.split()
    is_list = any(word.strip(_OUTER) in ("and", "or") for word in remark[:4])
    return bool(comma) and len(remark) > 2 and not is_list and same_answer(head, gold)


def _mathematics(stated: str, gold: str) -> str:
    """Return the number or expression of a statement: `3` of "3 apples for 4 people", `1, 2` of "1 or 2"."""
    stated = stated.strip()
    if "mod" not in gold:
        stated = re.sub(r"\s*\(?\s*\\?p?mod\s*\{?\s*\d+\s*\}?\s*\)?$", "", stated)
    if not any(sign in gold for sign in "=<>") and "=" in stated:
        equations = _LIST.split(tidied(stated))
        several = len(equations) > 1 and all("=" in equation for equation in equations)
        stated = ", ".join(e.rpartition("=")[2] for e in equations) if several else stated.rpartition("=")[2]
    if is_time_or_date(stated):
        return stated
    for piece in (stated, *(stated[: match.start()] for match in _CUT.finditer(stated))):
        if is_mathematics(piece):
            return piece
    spans = [
        m.span()
        for m in re.finditer(rf"\$[^$]+\$|\\\(.+?\\\)|(?<![\w.])[-−]?\$?{NUMBER}(?:\s?/\s?\d+|\s?\\?%)?", stated)
    ]
    spans = [(start, end) for start, end in spans if not re.search(r"\bnot\s+$", stated[:start])]
    if not spans:
        return stated
    items = [stated[slice(*spans[0])]]
    for (_, end), (start, stop) in pairwise(spans):
        if not _LIST.fullmatch(stated[end:start]):
            break
        items.append(stated[start:stop])
    return ", ".join(items)


def _of_several(text: str, letters: list[str]) -> bool:
    """Return whether the last letter of a choice is one of a list, such as "A and B"."""
    return (
        len(letters) > 1
        and re.search(rf"{letters[-2]}\)?\s*(?:,|and|or|/|&)+\s*\(?{letters[-1]}\)?\W*$", text) is not None
    )


def _braced(text: str) -> str:
    """Return the text up to the brace that closes an already open one."""
    depth = 1
    for k, letter in enumerate(text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth == 0:
            return text[:k]
    return text


def _statement(text: str) -> str:
    """Return the first line with content, up to its first full stop."""
    line = next((line for line in text.splitlines() if line.strip(_OUTER + "\\")), "")
    line = line.strip().lstrip("*").strip()
    return _END.split(line, maxsplit=1)[0].strip(" \t*\"'`").rstrip(",;:")
