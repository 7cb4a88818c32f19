rule foundation:
    # the foundation model, fetched once and kept; it runs where there is a network
    input:
        mark("foundation"),
        needs("foundation"),
    output:
        LAYOUT.receipt("foundation"),
        LAYOUT.foundation_model,
    log:
        LAYOUT.log("foundation"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora foundation {params.plan:q} 2> {log:q}"
        # why it was refused, where one looks first
        " || (tail -n 1 {log:q}; exit 1)"


rule split:
    # training, validation and test sets, with a leakage check
    input:
        mark("split"),
        needs("split"),
    output:
        LAYOUT.receipt("split"),
        LAYOUT.split("train"),
        LAYOUT.split("valid"),
        LAYOUT.split("test"),
    log:
        LAYOUT.log("split"),
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora split {params.plan:q} 2> {log:q}"


rule replay:
    # structures that remind a training of the foundation model, labelled once for all points
    input:
        mark("replay"),
        needs("replay"),
    output:
        LAYOUT.receipt("replay"),
        LAYOUT.replayed,
    log:
        LAYOUT.log("replay"),
    conda:
        ENV
    threads: 2
    params:
        plan=PLAN,
    shell:
        "mace-lora replay {params.plan:q} --threads {threads} 2> {log:q}"


rule audit:
    # labels against the foundation model's own predictions, before anything is trained on them
    input:
        mark("audit"),
        needs("audit"),
    output:
        LAYOUT.receipt("audit"),
    log:
        LAYOUT.log("audit"),
    conda:
        ENV
    threads: 2
    params:
        plan=PLAN,
    shell:
        "mace-lora audit {params.plan:q} --threads {threads} 2> {log:q}"


rule e0s:
    # atomic reference energies of the new level of theory, and the gate on the initial error
    input:
        mark("e0s"),
        needs("e0s"),
    output:
        LAYOUT.receipt("e0s"),
    log:
        LAYOUT.log("e0s"),
    conda:
        ENV
    threads: 2
    params:
        plan=PLAN,
    shell:
        "mace-lora e0s {params.plan:q} --threads {threads} 2> {log:q}"


rule keep:
    # structures made around the training set, labelled by the foundation model with the new E0s
    input:
        mark("keep"),
        needs("keep"),
    output:
        LAYOUT.receipt("keep"),
        LAYOUT.kept,
    log:
        LAYOUT.log("keep"),
    conda:
        ENV
    threads: 2
    params:
        plan=PLAN,
    shell:
        "mace-lora keep {params.plan:q} --threads {threads} 2> {log:q}"
