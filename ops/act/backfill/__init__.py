"""Find uploads that made no job, estimate their cost, and send them to `intake`.

Only a window of the bucket's listing is in memory at a time; the findings are in a temporary file.
"""
