"""Attacks on the program: kills, mutated files, full disks; see docs/reliability.md.

python -m tests.torture --minutes 10 --seed 0
"""
