rule split:
    # training, validation and test sets, with a leakage check
    input:
        dataset=config["data"]["file"],
        others=[
            path
            for key, path in data_files().items()
            if key not in ("data.file", "checks.holdout_file")
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
