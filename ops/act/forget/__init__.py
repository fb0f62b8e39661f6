"""Forget a character: delete everything that the stack stores about it, and report what cannot be deleted.

The order allows an interrupted run to be repeated: an item is deleted after the items that it leads to. So pictures and
outputs come before the records that name them, and messages before the uploads that they are about.
"""
