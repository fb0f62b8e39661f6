"""Chaos: 200 jobs through the deployed local stack, past a provider that misbehaves and functions that are killed.

`python -m local.chaos --seed 1` runs it. `scenario.py` draws all that happens from the seed, `storm.py` makes it
happen, `evidence.py` reads what came out, and `verdict.py` says whether the pipeline kept its promises: nothing lost,
nothing paid twice, nothing silent.
"""
