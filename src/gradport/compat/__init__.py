"""All uses of private names of other libraries: one folder or file per library.

The functions here have plain names and take and return public types, so no other room uses a private name. A private
name may move with any release; `test/compat` lists each name and fails if it moves, and `compat.torch.selftest` tests
the hooks once per process, before the first trace.
"""
