"""The field's habits beside ours, on the same systems: what each measures on an honest Gold and on a tuned cheat.

    python -m benchmarks.field_habits --store FOLDER

Golds here are fresh: trained without the forget set and in no pool that the audit judges by. Whatever a habit says of
them is said of a system that forgot for certain.
"""
