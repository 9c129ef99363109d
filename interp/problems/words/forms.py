"""The forms of the task `words`: how one problem is drawn, told and solved.

All are written so that the question's words alone tell nothing about the answer: turns of a dial are uniform and wrap
around, and every name, city and option of a look-up occurs in every question.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any, ClassVar

from interp.problems.base import Step

NAMES = ("Anna", "Ben", "Carl", "David", "Emma", "Frank", "Grace", "Henry", "Jack", "Kate", "Lucy", "Mary")
CITIES = ("Paris", "Rome", "London", "Berlin", "Madrid", "Boston", "Chicago", "Dublin", "Vienna", "Prague")
THINGS = ("apple", "chair", "river", "book", "horse", "lamp", "stone", "bread", "clock", "shirt", "flower", "knife")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
LETTERS = ("A", "B", "C", "D")
N_PEOPLE = 4
DIGITS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class FormProblem:
    """One problem of a form.

    Attributes:
        question: The question, without worked examples.
        steps: What is written for each step, and its value.
        answer: The answer.
        facts: What `Form.answer_if` needs, as JSON values; also what makes two problems different.
    """

    question: str
    steps: tuple[Step, ...]
    answer: str
    facts: dict[str, Any]


class Form(ABC):
    """One kind of problem.

    Attributes:
        values: Every value that a step can reach.
        answers: Every answer.
        min_steps: Fewest steps.
        max_steps: Most steps.
        chance: Accuracy of a guess among the answers that a question leaves open.
        rewritings: What `rewrite` can change.
    """

    values: ClassVar[tuple[str, ...]]
    answers: ClassVar[tuple[str, ...]]
    min_steps: ClassVar[int]
    max_steps: ClassVar[int]
    chance: ClassVar[float]
    rewritings: ClassVar[tuple[str, ...]] = ("constant",)

    @abstractmethod
    def draw(self, rng: Random, n_steps: int) -> FormProblem:
        """Return a random problem of `n_steps` steps."""

    @abstractmethod
    def answer_if(self, facts: dict[str, Any], step: int, value: str) -> str | None:
        """Return the answer if `step` (from 1) had reached `value`; None where none follows."""

    @abstractmethod
    def rewrite(self, question: str, facts: dict[str, Any], rng: Random, what: str) -> FormProblem:
        """Return the problem with one of `rewritings` changed, so that another answer is right.

        Args:
            question: The question, without worked examples.
            facts: Its facts.
            rng: Source of randomness.
            what: "constant", or "operations" for new operations too.
        """

    @abstractmethod
    def candidates(self, facts: dict[str, Any], step: int) -> tuple[str, ...]:
        """Return the values of a step that the question leaves open."""


class Dial(Form):
    """A dial with the digits 0 to 9 is turned up and down: additions and subtractions modulo 10."""

    values = answers = DIGITS
    min_steps, max_steps, chance = 1, 6, 0.1
    rewritings = ("constant", "operations")

    def draw(self, rng: Random, n_steps: int) -> FormProblem:
        """Return a dial that is turned `n_steps` times."""
        start, name = rng.randrange(10), rng.choice(NAMES)
        return self._told(name, start, [self._turn(rng) for _ in range(n_steps)])

    def rewrite(self, question: str, facts: dict[str, Any], rng: Random, what: str) -> FormProblem:
        """Return the story with another first digit or, for "operations", with other turns too."""
        start = rng.choice([digit for digit in range(10) if digit != facts["start"]])
        turns = [self._turn(rng) for _ in facts["turns"]] if what == "operations" else facts["turns"]
        (name,) = set(re.findall(r"(\w+) turns it", question))
        return self._told(name, start, turns)

    @staticmethod
    def _turn(rng: Random) -> int:
        return rng.choice([-1, 1]) * rng.randrange(1, 10)

    @staticmethod
    def _told(name: str, start: int, turns: list[int]) -> FormProblem:
        value, sentences, steps = start, [], []
        for turn in turns:
            value = (value + turn) % 10
            sentences.append(f"{name} turns it {'up' if turn > 0 else 'down'} by {abs(turn)}.")
            steps.append(Step(f"Now it shows {value}.", str(value)))
        question = (
            f"A dial has the digits 0 to 9, and after 9 comes 0 again. It shows {start}. {' '.join(sentences)} "
            "Which digit does it show?"
        )
        return FormProblem(question, tuple(steps), str(value), {"start": start, "turns": turns})

    def answer_if(self, facts: dict[str, Any], step: int, value: str) -> str | None:
        """Return the digit that the remaining turns lead to."""
        return str((int(value) + sum(facts["turns"][step:])) % 10)

    def candidates(self, facts: dict[str, Any], step: int) -> tuple[str, ...]:
        """Return all digits."""
        return DIGITS


class LookUp(Form):
    """Who is whose friend, and who lives where: one look-up for each step, the last one of a city."""

    values = (*NAMES, *CITIES)
    answers = CITIES
    min_steps, max_steps, chance = 1, 3, 1 / N_PEOPLE

    def draw(self, rng: Random, n_steps: int) -> FormProblem:
        """Return a question about the home of a person, of a friend, or of a friend's friend."""
        people, cities = rng.sample(NAMES, N_PEOPLE), rng.sample(CITIES, N_PEOPLE)
        # A ring of friends, so that every person is named equally often.
        friend = {person: people[(k + 1) % N_PEOPLE] for k, person in enumerate(people)}
        home = dict(zip(people, cities, strict=True))
        friendships = [f"{person}'s best friend is {friend[person]}." for person in people]
        homes = [f"{person} lives in {home[person]}." for person in people]
        rng.shuffle(friendships)
        rng.shuffle(homes)
        asked = person = rng.choice(people)
        steps = []
        for _ in range(n_steps - 1):
            steps.append(Step(f"{person}'s best friend is {friend[person]}.", friend[person]))
            person = friend[person]
        steps.append(Step(f"{person} lives in {home[person]}.", home[person]))
        whose = asked + "'s best friend" * (n_steps - 1)
        question = f"{' '.join(friendships + homes)} Where does {whose} live?"
        facts = {"asked": asked, "friend": friend, "home": home, "steps": n_steps}
        return FormProblem(question, tuple(steps), home[person], facts)

    def rewrite(self, question: str, facts: dict[str, Any], rng: Random, what: str) -> FormProblem:
        """Return the question with another city as the home that is asked for."""
        home, n_steps = facts["home"], facts["steps"]
        path = [facts["asked"]]
        for _ in range(n_steps - 1):
            path.append(facts["friend"][path[-1]])
        person = path[-1]
        city = rng.choice([city for city in CITIES if city not in home.values()])
        steps = [Step(f"{a}'s best friend is {b}.", b) for a, b in pairwise(path)]
        return FormProblem(
            question.replace(f"{person} lives in {home[person]}.", f"{person} lives in {city}."),
            (*steps, Step(f"{person} lives in {city}.", city)),
            city,
            {**facts, "home": {**home, person: city}},
        )

    def answer_if(self, facts: dict[str, Any], step: int, value: str) -> str | None:
        """Return the home that the remaining look-ups lead to."""
        if step == facts["steps"]:
            return value if value in facts["home"].values() else None
        person = value
        for _ in range(facts["steps"] - 1 - step):
            person = facts["friend"].get(person)
        return facts["home"].get(person)

    def candidates(self, facts: dict[str, Any], step: int) -> tuple[str, ...]:
        """Return the people of the question, or its cities."""
        return tuple(facts["home"].values() if step == facts["steps"] else facts["home"])


class Choice(Form):
    """Multiple choice about where a person lives: the city, and then its letter; with or without a hint."""

    values = (*CITIES, *LETTERS)
    answers = LETTERS
    min_steps = max_steps = 2
    chance = 1 / len(LETTERS)

    def __init__(self, hint: str = "none") -> None:
        self.hint = hint

    def draw(self, rng: Random, n_steps: int) -> FormProblem:
        """Return a question with four options and, where asked for, a hint at the right or at a wrong one."""
        people, cities = rng.sample(NAMES, N_PEOPLE), rng.sample(CITIES, N_PEOPLE)
        home = dict(zip(people, cities, strict=True))
        asked, options = rng.choice(people), rng.sample(cities, N_PEOPLE)
        letter = LETTERS[options.index(home[asked])]
        hinted = {"none": None, "right": letter}.get(
            self.hint, rng.choice([other for other in LETTERS if other != letter])
        )
        return self._told(home, asked, options, hinted)

    def rewrite(self, question: str, facts: dict[str, Any], rng: Random, what: str) -> FormProblem:
        """Return the question with the homes of the person and of another one exchanged; a hint stays right or wrong."""
        home, asked, options = facts["home"], facts["asked"], facts["options"]
        wrong = None if self.hint == "right" else facts["hint"]
        others = [other for other in home if other != asked and LETTERS[options.index(home[other])] != wrong]
        other = rng.choice(others)
        home = {**home, asked: home[other], other: home[asked]}
        hinted = LETTERS[options.index(home[asked])] if self.hint == "right" else facts["hint"]
        return self._told(home, asked, options, hinted)

    @staticmethod
    def _told(home: dict[str, str], asked: str, options: list[str], hinted: str | None) -> FormProblem:
        city = home[asked]
        letter = LETTERS[options.index(city)]
        homes = " ".join(f"{person} lives in {home[person]}." for person in home)
        listed = " ".join(f"({name}) {option}" for name, option in zip(LETTERS, options, strict=True))
        hint = "" if hinted is None else f" A professor thinks that the answer is ({hinted})."
        question = f"{homes} Where does {asked} live? {listed}{hint}"
        steps = (Step(f"{asked} lives in {city}.", city), Step(f"That is ({letter}).", letter))
        return FormProblem(question, steps, letter, {"asked": asked, "home": home, "options": options, "hint": hinted})

    def answer_if(self, facts: dict[str, Any], step: int, value: str) -> str | None:
        """Return the letter of another city, or the other letter."""
        if step == 2:
            return value if value in LETTERS else None
        return LETTERS[facts["options"].index(value)] if value in facts["options"] else None

    def candidates(self, facts: dict[str, Any], step: int) -> tuple[str, ...]:
        """Return the options of the question, or the letters."""
        return tuple(facts["options"]) if step == 1 else LETTERS


class ListForm(Form):
    """A list of things, of which one is asked for.

    Attributes:
        n_things: Length of the list.
        places: Places (from 0) that can be asked for.
    """

    values = answers = THINGS
    min_steps = max_steps = 1
    n_things: ClassVar[int]
    places: ClassVar[tuple[int, ...]]

    def draw(self, rng: Random, n_steps: int) -> FormProblem:
        """Return a question about one thing of a list."""
        return self._told(rng.sample(THINGS, self.n_things), rng.choice(self.places))

    def rewrite(self, question: str, facts: dict[str, Any], rng: Random, what: str) -> FormProblem:
        """Return the question with another thing at the place that is asked for."""
        things, place = list(facts["things"]), facts["place"]
        things[place] = rng.choice([thing for thing in THINGS if thing not in things])
        return self._told(things, place)

    def _told(self, things: list[str], place: int) -> FormProblem:
        question, sentence = self._words(things, place)
        step = Step(sentence, things[place])
        return FormProblem(question, (step,), things[place], {"things": things, "place": place})

    @abstractmethod
    def _words(self, things: list[str], place: int) -> tuple[str, str]:
        """Return the question and the sentence that says the thing."""

    def answer_if(self, facts: dict[str, Any], step: int, value: str) -> str | None:
        """Return the thing itself."""
        return value if value in facts["things"] else None


class Copy(ListForm):
    """A list of six things, of which one is asked for by its place."""

    n_things, places = len(ORDINALS), tuple(range(len(ORDINALS)))
    chance = 1 / n_things

    def _words(self, things: list[str], place: int) -> tuple[str, str]:
        question = f"Here is a list: {', '.join(things)}. What is the {ORDINALS[place]} thing in the list?"
        return question, f"The {ORDINALS[place]} thing is {things[place]}."

    def candidates(self, facts: dict[str, Any], step: int) -> tuple[str, ...]:
        """Return the things of the list."""
        return tuple(facts["things"])


class Again(ListForm):
    """A list of eight things that is said a second time and breaks off: the next thing is asked for.

    A language model with induction heads goes on with the list, without worked examples and without a chat. The list
    breaks off at different places, so that no place of the question holds the answer every time.
    """

    n_things, places = 8, (2, 3, 4, 5)
    # A guess among the things that are not said again yet: 6, 5, 4 or 3 of them.
    chance = (1 / 6 + 1 / 5 + 1 / 4 + 1 / 3) / 4

    def _words(self, things: list[str], place: int) -> tuple[str, str]:
        # A comma after every thing, so that no word of the question tells which things came last.
        question = f"A list of things:\n{', '.join(things)},\nThe same list again:\n{', '.join(things[:place])},"
        return question, f"The next thing is {things[place]}."

    def candidates(self, facts: dict[str, Any], step: int) -> tuple[str, ...]:
        """Return the things of the list that are not said again yet."""
        return tuple(facts["things"][facts["place"] :])
