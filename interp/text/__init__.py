"""Taking visible thoughts apart: sentences, steps, words, languages."""
