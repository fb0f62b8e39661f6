"""The console: a page for new jobs, their progress and their results, on the operator's own machine.

`app` has the routes that read; `acting` those that send, `choosing` those of a selection, `attending` what is asked of
a person; `guard` keeps everybody else out. `feed` watches the table and notifies the pages; `cards`, `turns` and
`glance` say what they show. `staging` keeps chosen files, `sending` plans them, and `ops.act.sender` brings them to
S3;
`pictures`, `sheet` and `archive` read the buckets. It acts with the operator's credentials; nothing here is deployed.
"""
