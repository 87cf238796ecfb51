"""What the simulator can carry: a load for it, its cost by process, the floor of that cost.

``scripts/measure_dcc_sim_scale.py`` and ``tests/bench`` measure with it.
"""
