"""Simulate the parts of AWS that a waiting job uses, as documented; `python -m bench backlog` runs on it."""
