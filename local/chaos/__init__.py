"""Chaos: 200 jobs through the deployed local stack, past a provider that misbehaves and functions that are killed.

`python -m local.chaos --seed 1` runs it. `scenario.py` draws all that happens from the seed, `run.py` makes it happen,
with `gateway.py` for what goes wrong in AWS itself; `evidence.py` reads what came out, and `invariants.py` checks that
the pipeline kept its promises: nothing lost, nothing paid twice, nothing silent.
"""
