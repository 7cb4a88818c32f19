rule train:
    # one point of the grid; an interrupted one goes on from its last epoch
    input:
        train=rules.split.output.train,
        valid=rules.split.output.valid,
        e0s=rules.e0s.output,
        foundation=FOUNDATION_FILE,
    output:
        tensors=f"{RESULTS}/train/{{point}}/adapter/adapter.safetensors",
        card=f"{RESULTS}/train/{{point}}/adapter/adapter.json",
        record=f"{RESULTS}/train/{{point}}/train.json",
        metrics=f"{RESULTS}/train/{{point}}/metrics.jsonl",
    log:
        f"{RESULTS}/logs/train/{{point}}.log",
    conda:
        ENV
    threads: 1
    resources:
        gpu=GPUS,  # on one machine with one GPU: snakemake --resources gpu=1
    params:
        out=subpath(output.record, parent=True),
        foundation=FOUNDATION_FLAGS,
        settings=train_flags,
        code=code_of("train"),
    shell:
        "mace-lora train {input.train:q} {input.valid:q} --e0s_file {input.e0s:q}"
        " {params.foundation} {params.settings} --threads {threads} --out {params.out:q} 2> {log:q}"
