r"""Answers as models write them, the right answer, and whether they agree."""

from __future__ import annotations

ISSUE: list[tuple[str, str, bool]] = [
    (r"\boxed{2\sqrt{3}}", "2", False), (r"\boxed{10^{5}}", "10", False), (r"\boxed{3x+2}", "3", False),
    (r"\boxed{(3, 4)}", "3", False), ("The answer is 3 or 4", "3", False), (r"\boxed{5:30}", "5", False),
    (r"\boxed{\frac{\sqrt{3}}{2}}", "3", False), (r"\boxed{\text{Monday}}", "Monday", True),
    (r"\boxed{\textbf{(B)}}", "B", True), (r"\boxed{1{,}234}", "1234", True), (r"\boxed{\frac12}", "1/2", True),
    ("The answer is .5", "0.5", True), (r"\boxed{42}. So the answer is correct.", "42", True),
    ("\\boxed{42}\n\nThis answer is consistent with our estimate of 40.", "42", True),
    ("The answer is B, since A fails", "B", True), ("The answer is 北京。", "北京", True),
    ("The answer is Dr. Smith", "Dr. Smith", True),
]  # fmt: skip
NUMBERS: list[tuple[str, str, bool]] = [
    ("1,234,567", "1234567", True), ("$1,234.50", "1234.5", True), ("#### 1 234", "1234", False), ("-3", "3", False),
    ("−3", "-3", True), ("The answer is -3.", "-3", True), ("50%", "50", True), (r"\boxed{50\%}", "0.5", True),
    (r"\boxed{0.5}", "50%", True), (r"\boxed{0.5}", "50", False), ("3.0", "3", True), ("1e3", "1000", True),
    (r"\boxed{3\times 10^{5}}", "300000", True), (r"\boxed{10^3}", "1000", True), ("0.333", "1/3", False),
    ("½", "0.5", True), ("3/4", "0.75", True), (r"$\frac{3}{4}$", "3/4", True), (r"\boxed{\dfrac{2}{4}}", "1/2", True),
    (r"\boxed{-\frac{1}{2}}", "-0.5", True), (r"\boxed{\frac{1}{2}}", "-1/2", False), ("٤٢", "42", True), ("４２", "42", True),
    (r"\boxed{x = 5}", "5", True), ("The answer is 3 + 4 = 7", "7", True), ("The answer is 3 + 4 = 7", "3", False),
    ("The answer is not 5 but 4", "4", True), ("the answer is 3 apples for 4 people", "3", True),
    ("The answer is 12, because 3 * 4 = 12", "12", True), ("The answer is 5. Wait, the answer is 4.", "4", True),
    ("The answer is 5. Wait, the answer is 4.", "5", False), ("#### 42 apples", "42", True),
]  # fmt: skip
EXPRESSIONS: list[tuple[str, str, bool]] = [
    (r"\boxed{(x+1)^2}", "x^2+2x+1", True), (r"\boxed{\sqrt{8}}", r"2\sqrt{2}", True), (r"\boxed{2\sqrt{3}}", r"3\sqrt{2}", False),
    (r"$\frac{\pi}{2}$", "pi/2", True), ("The answer is sqrt(3)/2.", r"\frac{\sqrt{3}}{2}", True), ("x²+1", "x^2+1", True),
    (r"\boxed{x^2+1}", "x^2-1", False), (r"\boxed{\{1, 2\}}", r"\{2, 1\}", True), (r"\boxed{\{1, 2\}}", r"\{1, 3\}", False),
    (r"\boxed{[0, 1)}", "[0,1)", True), (r"\boxed{(0, 1]}", "[0,1)", False), (r"\boxed{(0,1)}", "(0, 1)", True),
    (r"\boxed{(1, 2)}", "(2, 1)", False), (r"\boxed{1, 2}", "2, 1", True), (r"\boxed{3} and \boxed{4}", "3", False),
    (r"\boxed{3} or \boxed{4}", "3, 4", True), (r"\boxed{\infty}", r"-\infty", False), (r"(-\infty, 2]", r"(-\infty,2]", True),
    (r"\boxed{y = 2x + 1}", "y=2x+1", True), (r"\boxed{12^\circ}", "12", True), (r"\boxed{\left(\frac12, 3\right)}", "(1/2, 3)", True),
    (r"\boxed{x \le 3}", r"x \leq 3", True), (r"\boxed{x < 3}", "x > 3", False), (r"\boxed{5!}", "5", False), (r"\boxed{5!}", "120", True),
]  # fmt: skip
UNITS: list[tuple[str, str, bool]] = [
    ("5 cm", "5", True), ("5", "5 cm", True), ("5 cm", "5 cm", True), ("5 m", "5 cm", False), (r"\boxed{5\text{ cm}}", "5 cm", True),
    ("The answer is 5 centimeters.", "5 cm", True), (r"\boxed{12\text{ square meters}}", "12 m^2", True), ("3 hours", "3 hours", True),
    ("2 hours", "3 hours", False), ("5 dollars", "$5", True), ("5:30", "5:30", True), ("5:30 pm", "5:30", False),
    ("The answer is 5:30.", "6:30", False), ("2024-05-01", "2018", False), ("2024-05-01", "2024-05-01", True),
]  # fmt: skip
CHOICES: list[tuple[str, str, bool]] = [
    ("(B)", "B", True), ("B.", "B", True), ("b", "B", True), ("The answer is (B) 42.", "B", True), ("Answer: B) Paris", "B", True),
    ("The answer is option B", "B", True), ("The answer is B and C", "B", False), ("The answer is A or B", "B", False),
    ("The answer is A.", "B", False), ("The answer is a dog", "A", False), ("I choose (C).", "C", True), ("**D**", "D", True),
    (r"\boxed{\text{(A) yes}}", "A", True), ("The answer is A, not B.", "A", True), ("The answer is A, not B.", "B", False),
    ("The correct answer is C: the third", "C", True), ("A and B", "B", False), ("#### E", "E", True),
]  # fmt: skip
WORDS: list[tuple[str, str, bool]] = [
    ("I think it is Paris.", "paris", True), ("The answer is New York. It is large.", "New York", True), ("The answer is York.", "New York", False),
    ("The answer is New York.", "York", False), ("The answer is Paris, the capital of France.", "Paris", True), ("Yes, because it is.", "yes", True),
    ("Yes and no", "yes", False), ("The answer is red, green and blue", "red", False), ("答案是北京，因为它是首都。", "北京", True),
    ("答案：上海", "北京", False), ("答えは東京。", "東京", True), ("La respuesta es Madrid.", "Madrid", True), ("Die Antwort ist Köln.", "Köln", True),
    ("Ответ: Москва.", "Москва", True), ("**London**", "London", True), ("“Paris”", "Paris", True), ("The answer is C#.", "C#", True),
    ("The answer is C.", "C#", False), ("الجواب هو القاهرة", "القاهرة", True), ("true", "True", True), ("not true", "true", False),
    ("The answer is 7-Eleven", "7-Eleven", True), ("42", "forty-two", False), ("", "yes", False), ("Straße", "STRASSE", True),
]  # fmt: skip
CASES = [*ISSUE, *NUMBERS, *EXPRESSIONS, *UNITS, *CHOICES, *WORDS]
