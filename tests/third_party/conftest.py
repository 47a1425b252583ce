"""The packages in this folder are installed by `tests/test_third_party.py`, which runs their tests from a copy."""

collect_ignore_glob = ["*"]
