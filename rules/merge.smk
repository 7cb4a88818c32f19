rule merge:
    # adapters of a bundle of packs written into the full foundation model, with the proof that
    # they are the same
    input:
        mark("merge"),
        needs("merge"),
    output:
        LAYOUT.receipt("merge", "{bundle}"),
    log:
        LAYOUT.log("merge", "{bundle}"),
    conda:
        ENV
    threads: 1
    params:
        plan=PLAN,
    shell:
        "mace-lora merge {params.plan:q} {wildcards.bundle} --threads {threads} 2> {log:q}"


rule evaluate:
    # errors of merged models on the validation set and on every test set
    input:
        mark("evaluate"),
        needs("evaluate"),
    output:
        LAYOUT.receipt("evaluate", "{bundle}"),
    log:
        LAYOUT.log("evaluate", "{bundle}"),
    conda:
        ENV
    threads: 1
    params:
        plan=PLAN,
    shell:
        "mace-lora evaluate {params.plan:q} {wildcards.bundle} --threads {threads} 2> {log:q}"
