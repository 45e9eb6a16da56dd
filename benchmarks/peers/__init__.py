"""Consistency training from nothing: public implementations beside fewstep, at equal cost.

    score(t),   t = seconds of training on one thread

Every run has the same data, the same network with the same first weights (by seed), the same batches in the same
order and the same seconds. At fixed marks the clock stops, pictures are drawn with the implementation's own sampler in
one and two steps, and fewstep.evaluation scores them. Where a schedule needs to know how far training is, all are told
the same: the share of the seconds that is gone (`method.Method.step`). None of the peers' code is here: adapters import
it from folders that the user names, and call its losses, averages and samplers.

    python -m benchmarks.peers --peers DIR --data mnist-train.zip      the study; again, to go on with it
    python -m benchmarks.peers --peers DIR --data mnist-train.zip --check   do the adapters fit these checkouts?
"""
