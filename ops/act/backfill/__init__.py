"""Find uploads that made no job, say what they would cost, and send them to `intake`.

However many keys the bucket has, a window of its listing is in memory at a time, and what was found is in a file.
"""
