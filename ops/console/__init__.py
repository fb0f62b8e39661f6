"""The console: a page for new jobs, their progress and their results, on the operator's own machine.

- Routes: `app` has those that read, `acting` those that upload and retry, `choosing` those of a selection, `attending`
  those of dead letters, pauses and costs. `auth` refuses requests from anybody but the operator's own browser.
- What the page shows: `feed` reads the table through `known` and publishes changes as `events`. `cards`, `send_times`
  and `summary` compute what is shown.
- Uploads: `staging` keeps the chosen files, `sending` plans them, and `ops.act.sender` uploads them to S3.
- Images: `pictures`, `sheet` and `archive` read the buckets.

The console acts with the operator's credentials. Nothing here is deployed.
"""
