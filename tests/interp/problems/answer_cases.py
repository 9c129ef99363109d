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
# Written after the rules were, and read once before they were mended: 55 of 60 then agreed.
LATER: list[tuple[str, str, bool]] = [("Therefore, the final answer is $\\boxed{\\frac{7}{8}}$.","7/8",True),("\\boxed{7/8}","\\frac{7}{8}",True),("\\boxed{0.875}","\\frac78",True),
("The answer is $12.","12",True),("So he pays $1,050 in total.","1050",True),("= 15 apples","15",True),("It takes 3 hours and 20 minutes.","3",False),
("\\boxed{2^{10}}","1024",True),("\\boxed{\\sqrt{2}}","1.41421356",True),("\\boxed{\\sqrt{2}}","1.5",False),("\\boxed{(-\\infty,0)\\cup(1,\\infty)}","(-\\infty,0)\\cup(1,\\infty)",True),
("\\boxed{x=2 \\text{ or } x=3}","2, 3",True),("\\boxed{\\text{no solution}}","no solution",True),("\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}","\\begin{pmatrix}1\\\\2\\end{pmatrix}",True),
("The correct option is (C) because of gravity.","C",True),("Answer: C","D",False),("The final answer is: **A**","A",True),("the answer is $\\textbf{(E)}$","E",True),
("Final Answer: The final answer is $42$. I hope it is correct.","42",True),("The answer is: 7.","7",True),("**Answer:** 18","18",True),("### Answer\n\n18","18",True),
("答案是42。","42",True),("The answer is 1.5e3","1500",True),("The answer is 10%","0.1",True),("\\boxed{-7}","7",False),("\\boxed{ 1,000,000 }","1000000",True),
("The answer is 3.14","3.141",False),("\\boxed{6\\pi}","6\\pi",True),("\\boxed{6\\pi}","6",False),("\\boxed{a+b}","b+a",True),("\\boxed{3:4}","3:4",True),
("The answer is Alice.","Bob",False),("The answer is Alice and Bob.","Alice",False),("It is Alice.","Alice",True),("The answer is \"hello world\"","hello world",True),
("The answer is 5 km","5000 m",False),("\\boxed{45^{\\circ}}","45",True),("\\boxed{\\$30}","30",True),("The answer is yes.","no",False),("No","no",True),("The answer is 17, not 18.","17",True),
("Thus x = 3/2.","1.5",True),("\\[ \\boxed{16} \\]","16",True),("The answer is\n\n$$\\frac{1}{3}$$","1/3",True),("The answer is 1/3","0.3333333333",True),("\\boxed{1,2,3}","3,2,1",True),("#### -12","-12",True),("The total is 12 dozen.","12",True),
("So the answer is Москва","москва",True),("उत्तर: दिल्ली","दिल्ली",True),("The answer is between 3 and 5","3",False),("\\boxed{\\frac{3}{0}}","3",False),("The probability is \\frac{5}{36}","5/36",True),("\\boxed{8\\,000}","8000",True),("\\boxed{x \\in [1,2]}","[1,2]",True),("\\boxed{(2,3)}","(2, 3)",True),("$\\boxed{11\\frac{1}{2}}$","11.5",True),("\\boxed{90\\text{ degrees}}","90",True)]  # fmt: skip
# Written after that, and all agreed at first reading.
LAST: list[tuple[str, str, bool]] = [("Hence the value is $2^{5}=32$.","32",True),("\\boxed{\\tfrac{9}{4}}","2.25",True),("We get \\(\\frac{1}{6}\\).","1/6",True),("The answer is 8 or 9.","9",False),("\\boxed{\\{-1, 1\\}}","\\{1,-1\\}",True),
("The answer is 6,000.","6000",True),("I got 12.5%","12.5",True),("answer: (D)","D",True),("The answer is (A) or (D)","D",False),("The answer is Tom.","Tom",True),("The answer is Tom and Jerry","Tom",False),
("\\boxed{\\text{Yes}}","yes",True),("\\boxed{4x-1}","-1+4x",True),("\\boxed{4x-1}","4",False),("It costs €15","15",True),("The answer is 7/2","3.5",True),("#### 1,000","1000",True),("The answer is 2.","2.0",True),
("\\boxed{(2, -3)}","(2,-3)",True),("\\boxed{(2, -3)}","2",False),("答案为7","7",True),("The answer is Zürich.","zürich",True),("The answer is 1:30 pm","1",False),("Answer: 100 km/h","100",True),("Answer: 0","0",True),("zero","0",False),
("\\boxed{\\frac{x+1}{2}}","(x+1)/2",True),("\\boxed{e^{2}}","e^2",True),("The area is 24 square units.","24",True),("\\boxed{24 \\text{ units}^2}","24",True),("The answer is A","A",True),("a","A",True),("The answer is blue (not red)","blue",True),("The answer is blue (not red)","red",False),
("15","51",False),("\\boxed{0.1}","10\\%",True),("-0","0",True),("\\boxed{+5}","5",True),("The answer is 5, 6 and 7","5",False),("The answer is 1/2 of the pie","1/2",True)]  # fmt: skip
CASES = [*ISSUE, *NUMBERS, *EXPRESSIONS, *UNITS, *CHOICES, *WORDS, *LATER, *LAST]
