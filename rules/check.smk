rule check:
    # what test sets do not tell: forgetting, symmetry, dimers, energy drift
    input:
        mark("check"),
        needs("check"),
    output:
        LAYOUT.receipt("check", "{bundle}"),
    log:
        LAYOUT.log("check", "{bundle}"),
    conda:
        ENV
    threads: 1
    params:
        plan=PLAN,
    shell:
        "mace-lora check {params.plan:q} {wildcards.bundle} --threads {threads} 2> {log:q}"


rule shortlist:
    # the best points so far, and the foundation model to compare with
    input:
        mark("shortlist"),
        needs("shortlist"),
    output:
        LAYOUT.receipt("shortlist"),
    log:
        LAYOUT.log("shortlist"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora shortlist {params.plan:q} 2> {log:q}"


rule thorough:
    # the long checks, of the shortlist only: heating, holes
    input:
        mark("thorough"),
        needs("thorough"),
    output:
        LAYOUT.receipt("thorough"),
    log:
        LAYOUT.log("thorough"),
    conda:
        ENV
    threads: 2
    params:
        plan=PLAN,
    shell:
        "mace-lora thorough {params.plan:q} --threads {threads} 2> {log:q}"


rule choose:
    # the table of points, and which of them is the best
    input:
        mark("choose"),
        needs("choose"),
    output:
        LAYOUT.receipt("choose"),
        LAYOUT.table,
    log:
        LAYOUT.log("choose"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora choose {params.plan:q} 2> {log:q}"


rule trust:
    # bounds of the chosen model's force errors, and whether they hold on the test sets
    input:
        mark("trust"),
        needs("trust"),
    output:
        LAYOUT.receipt("trust"),
    log:
        LAYOUT.log("trust"),
    conda:
        ENV
    threads: 1
    params:
        plan=PLAN,
    shell:
        "mace-lora trust {params.plan:q} --threads {threads} 2> {log:q}"
