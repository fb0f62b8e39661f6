"""Chaos: 200 jobs through the deployed local stack, with a provider that misbehaves and functions that are killed.

`python -m local.chaos --seed 1` runs it. `scenario.py` draws all events from the seed. `run.py` makes them happen, and
`gateway.py` adds the faults of AWS itself. `evidence.py` reads the results, and `invariants.py` checks that the
pipeline kept its promises: nothing lost, nothing paid twice, nothing silent.
"""
