rule train:
    # a pack of points, each as it would train alone; an interrupted one goes on from its last epoch
    input:
        train=rules.split.output.train,
        valid=rules.split.output.valid,
        e0s=rules.e0s.output,
        foundation=FOUNDATION_FILE,
        replay=replay_files,
    output:
        f"{RESULTS}/train/packs/{{pack}}.json",
    log:
        f"{RESULTS}/logs/train/{{pack}}.log",
    conda:
        ENV
    threads: 1
    resources:
        gpu=GPUS * config["pack"]["gpus"],  # on one machine with one GPU: snakemake --resources gpu=1
        runtime=train_minutes,  # 0 on this machine, for no limit
        give_up=is_last_try,
    params:
        out=subpath(output[0], ancestor=2),
        work=subpath(output[0], strip_suffix=".json"),
        foundation=FOUNDATION_FLAGS,
        settings=as_flags(config["train"]),
        points=train_points,
        replay=replay_flags,
        program=train_program(),
        live=str(LIVE_RECORD),
        failed=times_failed,  # so that what failed is trained again the next time
        code=code_of("train"),
    shell:
        "{params.program} train {input.train:q} {input.valid:q} --e0s_file {input.e0s:q}"
        " {params.foundation} {params.settings} {params.replay} --points {params.points} --threads {threads}"
        " --time_limit {resources.runtime} --give_up {resources.give_up} --live {params.live:q}"
        " --out {params.out:q} --work {params.work:q} --receipt {output:q} 2> {log:q}"
        # why a try ended, for the log of its job: the next one begins a new log
        " || (tail -n 1 {log:q}; exit 1)"
