"""The latency study: one workload over several routes, measured the same way by several engines.

The modules, in the order of the work::

    study_file, parameters, cases    what is to be studied: a TOML file, cut into cases
    payloads                         the OpenADR messages of a workload, and what they cost
    engine, live, virtual, fleet     who carries a case out; all return the same tables
    internet                         the line of a home: a model, and a proxy that is as slow
    own_time                         what the software itself takes: measured, given to the models
    journal_tables                   the tables from the journals of real or simulated daemons
    tables, store                    the tables' columns, and how they are kept
    runner                           runs all cases, on all cores or several machines
    statistics, findings             percentiles, intervals, probabilities
    agreement                        whether the engines say the same, and what chance makes of it
    figures, report                  pictures and the page
"""
