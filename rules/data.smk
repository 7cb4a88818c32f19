rule split:
    # training, validation and test sets, with a leakage check
    input:
        dataset=config["data"]["file"],
        others=[
            path
            for key, path in data_files().items()
            if key not in ("data.file", "checks.holdout_file", "replay.file")
        ],
    output:
        train=f"{RESULTS}/data/train.xyz",
        valid=f"{RESULTS}/data/valid.xyz",
        test=f"{RESULTS}/data/test.xyz",
        summary=f"{RESULTS}/data/split.json",
    log:
        f"{RESULTS}/logs/split.log",
    conda:
        ENV
    params:
        out=subpath(output.train, parent=True),
        settings=split_flags(),
        code=code_of("split"),
    shell:
        "mace-lora split {input.dataset:q} --out {params.out:q} {params.settings} 2> {log:q}"


rule replay:
    # structures that remind a training of the foundation model, labelled once for all points
    input:
        structures=[x for x in [config["replay"]["file"]] if x],
        foundation=FOUNDATION_FILE,
    output:
        structures=f"{RESULTS}/replay/replay.xyz",
        summary=f"{RESULTS}/replay/replay.json",
    log:
        f"{RESULTS}/logs/replay.log",
    conda:
        ENV
    threads: 2
    params:
        foundation=FOUNDATION_FLAGS,
        settings=replay_settings(),
        code=code_of("replay"),
    shell:
        "mace-lora replay {input.structures:q} {params.foundation} {params.settings}"
        " --threads {threads} --out {output.structures:q} 2> {log:q}"
