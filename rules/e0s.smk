rule e0s:
    # atomic reference energies of the new level of theory, and the gate on the initial error
    input:
        train=rules.split.output.train,
        foundation=FOUNDATION_FILE,
    output:
        f"{RESULTS}/e0s/e0s.json",
    log:
        f"{RESULTS}/logs/e0s.log",
    conda:
        ENV
    threads: 2
    params:
        foundation=FOUNDATION_FLAGS,
        settings=e0s_flags(),
        code=code_of("e0s"),
    shell:
        "mace-lora e0s {input.train:q} {params.foundation} {params.settings}"
        " --threads {threads} --out {output:q} 2> {log:q}"
