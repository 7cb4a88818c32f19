rule merge:
    # adapters written into the full foundation model, with the proof that they are the same
    input:
        adapter=adapter_files,
        e0s=rules.e0s.output,
        check=rules.split.output.valid,
        foundation=FOUNDATION_FILE,
    output:
        f"{RESULTS}/merge/packs/{{pack}}.json",
    log:
        f"{RESULTS}/logs/merge/{{pack}}.log",
    conda:
        ENV
    threads: 1
    params:
        foundation=FOUNDATION_FLAGS,
        files=merge_flags,
        code=code_of("merge"),
    shell:
        "mace-lora merge {params.foundation} {params.files} --check_file {input.check:q}"
        " --threads {threads} --receipt {output:q} 2> {log:q}"
