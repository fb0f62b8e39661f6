"""The console: a page for new jobs, their progress and their results, on the operator's own machine.

`app` has the routes that read; `acting` those that send, `choosing` those of a selection, `attending` what is asked
of a person; `auth` keeps everybody else out. `feed` follows the table through `known`, and sends the pages what
changes as `events`; `cards`, `send_times` and `summary` say what they show. `staging` keeps chosen files, `sending`
plans them, and `ops.act.sender` brings them to S3; `pictures`, `sheet` and `archive` read the buckets. It acts with
the operator's credentials; nothing here is deployed.
"""
