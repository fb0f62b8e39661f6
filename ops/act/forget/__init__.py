"""Forget a character: remove all that the stack holds of it, and say what is beyond reach.

What leads to other things is removed after them, so a run that was interrupted can be repeated: pictures and outputs
before the records that name them, and messages before the uploads that they are about.
"""
