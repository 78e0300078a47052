"""The report's text: facts, words, a language model's draft, its check, and where a person confirms it."""
