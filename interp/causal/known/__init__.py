"""Known results that any tool has to find again in a language model: induction heads and in-context task vectors."""
