"""The loop that every reasoner runs: batches of problems, one position after another through one cache.

`Rollout` feeds positions to the model, `Thinker` runs a way of thinking over problems.
"""
