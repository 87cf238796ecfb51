"""The fleet engine: up to 30 million CEMs, each simulated by itself, many at once in arrays.

What a CEM has for itself (its fragments, its hub, its bad times, the repetitions) is simulated
event by event, in step for a whole chunk of CEMs. What all share (the DSRSP's pacing, the DCC, a
region's capacity) is a fluid that waits in line: `lines`. Chunks have seeds of their own, so
neither the number of processes nor their order changes a result.

    draws      numbers from the profile's distributions, in arrays
    model      what a case means for one CEM
    lines      what is shared: who waits how long
    weather    bad times and outages of hubs
    down, up   a message over route 2a
    direct     a message over the internet
    chunk      one chunk of CEMs through a workload
    engine     all chunks, one table
"""

from lab.study.fleet.engine import FleetEngine

__all__ = ["FleetEngine"]
