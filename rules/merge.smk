rule merge:
    # the adapter written into the full foundation model, with the proof that it is the same
    input:
        adapter=adapter_files,
        e0s=rules.e0s.output,
        check=rules.split.output.valid,
        foundation=FOUNDATION_FILE,
    output:
        model=f"{RESULTS}/merge/{{point}}/{{point}}.model",
        proof=f"{RESULTS}/merge/{{point}}/merge.json",
    log:
        f"{RESULTS}/logs/merge/{{point}}.log",
    conda:
        ENV
    threads: 1
    params:
        foundation=FOUNDATION_FLAGS,
        source=merge_flags,
        code=code_of("merge"),
    shell:
        "mace-lora merge {params.foundation} {params.source} --check_file {input.check:q}"
        " --threads {threads} --out {output.model:q} 2> {log:q}"
