"""Everything that gradport uses and that another library keeps private: one folder or file per library.

The functions here have plain names and take and return public types, so that no other room knows a private name. A
private name may move with any release; `test/compat` names each of them and fails when one does, and
`compat.torch.selftest` asks the whole chain once per process, before the first trace.
"""
