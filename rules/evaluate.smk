rule evaluate:
    # errors of a merged model on the validation set and on every test set
    input:
        model=rules.merge.output.model,
        valid=rules.split.output.valid,
        test=rules.split.output.test,
    output:
        errors=f"{RESULTS}/evaluate/{{point}}.json",
        parity=f"{RESULTS}/evaluate/{{point}}.parquet",
    log:
        f"{RESULTS}/logs/evaluate/{{point}}.log",
    conda:
        ENV
    threads: 1
    params:
        settings=as_flags({"batch_size": config["train"].get("valid_batch_size", 32)}),
        code=code_of("evaluate"),
    shell:
        "mace-lora evaluate {input.model:q} --valid_file {input.valid:q} --test_file {input.test:q}"
        " {params.settings} --threads {threads} --out {output.errors:q} 2> {log:q}"
