"""Pictures of the process: curves of a training run, of several laid over one another, and a report to send.

    from fewstep.plots.record import read
    from fewstep.plots.report import write

    write([read("runs/mine")], "runs/mine")      # runs/mine/plots/*.png and runs/mine/report.html

`fewstep plot RUN` does the same. It needs matplotlib, the extra `plot`; `style` is the one place for how figures look.
"""
