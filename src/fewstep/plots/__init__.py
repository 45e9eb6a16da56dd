"""Pictures of the process: curves of a training run, of several laid over one another, and a report to send.

`fewstep plot RUN` on the command line. Needs matplotlib, the extra `plot`.
"""
