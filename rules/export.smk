rule export:
    # the chosen model for simulation engines, and the proof that they agree with it
    input:
        mark("export"),
        needs("export"),
    output:
        LAYOUT.receipt("export"),
    log:
        LAYOUT.log("export"),
    conda:
        ENV
    threads: 2  # engines at a time
    params:
        plan=PLAN,
    shell:
        "mace-lora export {params.plan:q} --threads {threads} 2> {log:q}"


rule track:
    # MLflow filled from the files above; nothing else ever writes to it
    input:
        mark("track"),
        needs("track"),
    output:
        LAYOUT.receipt("track"),
    log:
        LAYOUT.log("track"),
    localrule: True
    conda:
        ENV
    params:
        plan=PLAN,
    shell:
        "mace-lora track {params.plan:q} 2> {log:q}"
