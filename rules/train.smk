rule train:
    # a pack of points, each as it would train alone; an interrupted one goes on from its last epoch
    input:
        mark("train"),
        needs("train"),
    output:
        LAYOUT.receipt("train", "{pack}"),
    log:
        LAYOUT.log("train", "{pack}"),
    priority: 1  # all else can wait for it, and be done while the last one trains
    conda:
        ENV
    threads: 1
    resources:
        gpu=SWEEP.gpus,  # on one machine with one GPU: snakemake --resources gpu=1
        runtime=minutes,
        attempt=this_try,
    params:
        plan=PLAN,
        program=SWEEP.train_program,
    shell:
        "{params.program} train {params.plan:q} {wildcards.pack} --threads {threads}"
        # what a cluster gives may be less than what is asked for here: its executor says it
        " --minutes ${{MACE_LORA_MINUTES:-{resources.runtime}}}"
        " --attempt {resources.attempt} 2> {log:q}"
        # why a try ended, for the log of its job: the next one begins a new log
        " || (tail -n 1 {log:q}; exit 1)"


rule probe:
    # of a race: the checks of race.checks on the models at a rung
    input:
        mark("probe"),
        needs("probe"),
    output:
        LAYOUT.receipt("probe", "{rung}"),
    log:
        LAYOUT.log("probe", "{rung}"),
    conda:
        ENV
    threads: 1
    params:
        plan=PLAN,
    shell:
        "mace-lora probe {params.plan:q} {wildcards.rung} --threads {threads} 2> {log:q}"


rule rung:
    # of a race: compare the settings so far, and pack those that go on
    input:
        mark("rung"),
        needs("rung"),
    output:
        LAYOUT.receipt("rung", "{rung}"),
    log:
        LAYOUT.log("rung", "{rung}"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora rung {params.plan:q} {wildcards.rung} 2> {log:q}"


rule truncate:
    # the adapter of the highest rank cut to a lower one by SVD (rank_curve)
    input:
        mark("truncate"),
        needs("truncate"),
    output:
        LAYOUT.receipt("truncate", "{point}"),
    log:
        LAYOUT.log("truncate", "{point}"),
    conda:
        ENV
    threads: 1
    params:
        plan=PLAN,
    shell:
        "mace-lora truncate {params.plan:q} {wildcards.point} --threads {threads} 2> {log:q}"
