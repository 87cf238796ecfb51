"""The latency study: one workload over several routes, measured the same way by several engines.

The modules, in the order of the work::

    study_file, parameters, cases    what is to be studied: a TOML file, cut into cases
    payloads                         the OpenADR messages of a workload, and what they cost
    engine, live, virtual, fleet     who carries a case out; all return the same tables
    journal_tables                   the tables from the journals of real or simulated daemons
    tables, store                    the tables' columns, and how they are kept
    runner                           runs all cases, on all cores or several machines
    statistics, findings             percentiles, intervals, probabilities
    figures, report                  pictures and the page
"""
