"""AWS as documented, as far as a waiting job meets it, in simulated time: what `python -m bench backlog` runs on."""
