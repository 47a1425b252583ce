"""Is a verdict worth its name? Audits resampled from pools of really trained systems, judged by the real rule.

    python -m benchmarks.calibration --store FOLDER

trains what the folder lacks (resumable), repeats every study and writes docs/calibration.md.
"""
