rule evaluate:
    # errors of merged models on the validation set and on every test set
    input:
        models=rules.merge.output,
        valid=rules.split.output.valid,
        test=rules.split.output.test,
    output:
        f"{RESULTS}/evaluate/packs/{{pack}}.json",
    log:
        f"{RESULTS}/logs/evaluate/{{pack}}.log",
    conda:
        ENV
    threads: 1
    params:
        files=evaluate_flags,
        settings=as_flags({"batch_size": config["train"].get("valid_batch_size", 32)}),
        code=code_of("evaluate"),
    shell:
        "mace-lora evaluate {params.files} --valid_file {input.valid:q} --test_file {input.test:q}"
        " {params.settings} --threads {threads} --receipt {output:q} 2> {log:q}"
