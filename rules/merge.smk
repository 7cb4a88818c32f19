rule merge:
    # adapters written into the full foundation model, with the proof that they are the same
    input:
        mark("merge"),
        needs("merge"),
    output:
        LAYOUT.receipt("merge", "{pack}"),
    log:
        LAYOUT.log("merge", "{pack}"),
    conda:
        ENV
    threads: 1
    params:
        plan=PLAN,
    shell:
        "mace-lora merge {params.plan:q} {wildcards.pack} --threads {threads} 2> {log:q}"


rule evaluate:
    # errors of merged models on the validation set and on every test set
    input:
        mark("evaluate"),
        needs("evaluate"),
    output:
        LAYOUT.receipt("evaluate", "{pack}"),
    log:
        LAYOUT.log("evaluate", "{pack}"),
    conda:
        ENV
    threads: 1
    params:
        plan=PLAN,
    shell:
        "mace-lora evaluate {params.plan:q} {wildcards.pack} --threads {threads} 2> {log:q}"
