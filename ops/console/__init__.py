"""The console: a page to drop, watch and look, on the operator's own machine and with the operator's credentials.

`app` has the routes, `guard` keeps everybody else out. `feed` watches the table and tells the pages; `cards`, `turns`
and `glance` say what they show. `shelf` keeps what was dropped, `pictures` and `sending` read and write the buckets.
Nothing here is deployed.
"""
